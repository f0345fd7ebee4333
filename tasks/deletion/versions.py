"""The deletion of a registered version."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.deletion.journal import Deletion
from tasks.deletion.rules import DeletionError, VersionUse, require_deletable, version_obstacles
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.flow_runs import flow_run_is_final
from tasks.orchestration.step import retried_step
from tasks.orchestration.unfinished_runs import FLOW_RUN_ID, list_unfinished_runs
from tasks.selection import known_sample
from tasks.serving import model_control, model_repository
from tasks.storage.fence import announced_change
from tasks.storage.leases import lease_holders
from tasks.storage.locks import serving_lock
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.tracking import champions, deleted_versions
from tasks.tracking.registered_versions import RegisteredVersion, find_model, list_versions
from tasks.training.checkpoints import checkpoint_key

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)
LOCK_WAIT_S = 10.0  # a deployment is no reason to wait, but one that lets go just now is
_DEPLOYING = ("deploy-model", "rollback-model", "undeploy-model")


def model_lock(model_name: str) -> AbstractContextManager[Callable[[], None]]:
    """Keep deployments of a model out of the block; a StorageError names one that is at work."""
    return serving_lock(model_name, flow_run_id(), flow_run_is_final, wait_s=LOCK_WAIT_S)


@retried_step
def find_version(model_name: str, version: int) -> Deletion:
    """Return what is to be deleted.

    Raises:
        DeletionError: There is no such version.
    """
    versions = list_versions(model_name)
    registered = _numbered(versions, version)
    if registered is None:
        known = ", ".join(str(each.number) for each in versions[:10]) or "none"
        raise DeletionError(
            f"Expected version {version} of {model_name!r}, found the versions {known}. `studio models` lists them all."
        )
    tombstone = Tombstone(
        kind=Kind.VERSION,
        name=f"{model_name}/{version}",
        deleted=datetime.now(UTC),
        flow_run_id=flow_run_id(),
        kept={"tracked_run": registered.run_id},
        tags=dict(registered.tags),
    )
    payload = {"model": model_name, "version": version, "tracked_run": registered.run_id}
    return Deletion(tombstone=tombstone, event=events.VERSION_DELETED, payload=payload)


@retried_step
def version_is_there(deletion: Deletion) -> bool:
    """Return whether the registry still has the version."""
    model_name, version = _parts(deletion)
    return _numbered(list_versions(model_name), version) is not None


@retried_step
def require_unused_version(deletion: Deletion, force: bool) -> None:
    """Return if nobody needs the version; the caller holds the lock of the model.

    Raises:
        DeletionError: Somebody does.
    """
    model_name, version = _parts(deletion)
    model = find_model(model_name)
    use = VersionUse(
        aliases=[alias for alias, number in model.aliases.items() if number == version] if model else [],
        is_served=_is_served(model_name, version),
        history=champions.champion_history.fn(model_name),
        holders=lease_holders(model_name).get(version, []),
        deployments=[
            run.name for run in list_unfinished_runs(*_DEPLOYING) if run.parameters.get("model_name") == model_name
        ],
        training=[run.name for run in list_unfinished_runs("train-model") if run.id == _training_run(deletion)],
        trained_from=[
            f"{each.model}/{each.number}"
            for each in list_versions()
            if each.tags.get("base_model") == f"models:/{model_name}/{version}"
        ],
    )
    require_deletable(f"version {deletion.name}", version_obstacles(version, use), force=force)


@retried_step
def remove_version(deletion: Deletion) -> None:
    """Remove what is served of the version, and then the version itself; its run in MLflow stays, with a tag."""
    model_name, version = _parts(deletion)
    with announced_change(flow_run_id()):
        champions.forget_champion.fn(model_name, version)
        model_repository.delete_version.fn(model_name, version)
        if run := _training_run(deletion):
            _RUNS.delete(f"{run}/best.pt", *_RUNS.keys(checkpoint_key(run)))
        _RUNS.delete(*_RUNS.keys(known_sample.folder_of(model_name, version)))
        deleted_versions.delete_version(model_name, version, deletion.tombstone.flow_run_id)


def _training_run(deletion: Deletion) -> str:
    """The flow run that trained the version; empty if its tags do not say."""
    run = deletion.tombstone.tags.get("flow_run_id", "")
    return run if FLOW_RUN_ID.fullmatch(run) else ""


def _is_served(model_name: str, version: int) -> bool:
    """Whether Triton answers with the version under any name; raises ServingError if it is away."""
    if version in model_control.list_ready_versions().get(model_name, set()):
        return True
    return version in {each.version for each in model_control.list_candidates(model_name)}


def _numbered(versions: list[RegisteredVersion], version: int) -> RegisteredVersion | None:
    return next((each for each in versions if each.number == version), None)


def _parts(deletion: Deletion) -> tuple[str, int]:
    payload: Any = deletion.payload
    return payload["model"], payload["version"]

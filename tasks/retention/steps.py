"""Steps of a clean-up: take stock, and remove what was chosen."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from tasks.catalogue import tombstones
from tasks.catalogue.tombstones import Tombstone
from tasks.errors import StudioError
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.flow_runs import flow_run_is_final
from tasks.orchestration.scratch import remove_abandoned
from tasks.orchestration.step import retried_step
from tasks.retention import inventory
from tasks.retention.rules import Kind, Leaving, State, reason_to_stay
from tasks.serving.model_repository import delete_version
from tasks.storage.fence import announced_change
from tasks.storage.locks import serving_lock
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.tracking.mlflow_bin import list_deleted, remove_deleted
from tasks.tracking.registered_versions import list_versions

LOCK_WAIT_S = 10.0
_SUMMARY = "summary.json"  # which makes predictions count as published


@retried_step
def take_stock() -> State:
    """Return all that was left behind, and who is protected.

    Raises:
        StudioError: A service is away: without its word nothing is removed.
    """
    return inventory.take_stock()


@retried_step
def remove(kind: Kind, chosen: Iterable[Leaving]) -> None:
    """Remove what was chosen of a kind, unless somebody who is protected has come to own it meanwhile.

    Raises:
        StudioError: A service is away.
    """
    with announced_change(flow_run_id()):
        if kind is Kind.GRAPHS:
            _remove_graphs(list(chosen))
            return
        for leaving in _still_free(list(chosen)):
            _REMOVERS[kind](leaving)


def _still_free(chosen: list[Leaving]) -> list[Leaving]:
    state = inventory.protect(chosen, list_versions())
    return [leaving for leaving in chosen if reason_to_stay(leaving, state) is None]


def _remove_graphs(chosen: list[Leaving]) -> None:
    """Remove graphs, a model at a time under its lock: a deployment may have taken one up."""
    by_model = sorted((_version(leaving), leaving.name) for leaving in chosen)
    leavings = {leaving.name: leaving for leaving in chosen}
    for model, group in groupby(by_model, key=lambda each: each[0][0]):
        own = [leavings[name] for _, name in group]
        try:
            with serving_lock(model, flow_run_id(), flow_run_is_final, wait_s=LOCK_WAIT_S):
                for leaving in _still_free(own):
                    delete_version.fn(*_version(leaving))
        except StudioError as error:
            if error.transient:
                raise
            log_step("the graphs of %s stay until the next clean-up: %s", model, error)


def _version(leaving: Leaving) -> tuple[str, int]:
    model, _, number = next(iter(leaving.owners)).rpartition("/")
    return model, int(number)


def _remove_objects(leaving: Leaving) -> None:
    uri = _uri(leaving)
    store = ObjectStore(uri.bucket, SHORT_OUTAGE)
    store.delete(*(store.keys(uri.key) if uri.key.endswith("/") else [uri.key]))


def _remove_predictions(leaving: Leaving) -> None:
    """Remove the results of a run, with a tombstone and an event, as delete-predictions does."""
    (run,) = leaving.owners
    ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE).delete(f"{run}/{_SUMMARY}")
    _remove_objects(leaving)
    tombstone = Tombstone(
        kind=tombstones.Kind.PREDICTION,
        name=run,
        deleted=datetime.now(UTC),
        flow_run_id=flow_run_id(),
        reason="older than clean-up keeps predictions",
    )
    tombstones.write(tombstone)
    payload = {"run": run, "model": "", "objects": leaving.files, "size": leaving.size}
    events.emit(events.PREDICTION_DELETED, events.prediction(run), payload=payload, key=f"{flow_run_id()} {run}")


def _abort_upload(leaving: Leaving) -> None:
    uri = _uri(leaving)
    key, _, upload = uri.key.rpartition("#")
    ObjectStore(uri.bucket, SHORT_OUTAGE).abort_upload(key, upload)


def _remove_folder(leaving: Leaving) -> None:
    remove_abandoned(Path(leaving.name))


def _remove_deleted_entry(leaving: Leaving) -> None:
    for entry in list_deleted() or ():
        if f"{entry.kind}/{entry.id}" == leaving.name:  # nobody has restored it meanwhile
            remove_deleted(entry)


def _uri(leaving: Leaving) -> S3Uri:
    bucket, _, key = leaving.name.removeprefix("s3://").partition("/")
    return S3Uri(bucket, key)


_REMOVERS: Mapping[Kind, Callable[[Leaving], None]] = {
    Kind.CHECKPOINTS: _remove_objects,
    Kind.PARTS: _remove_objects,
    Kind.PREDICTIONS: _remove_predictions,
    Kind.UPLOADS: _abort_upload,
    Kind.SCRATCH: _remove_folder,
    Kind.TRACKED: _remove_deleted_entry,
}

"""The deletion of an archive."""

from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.deletion.journal import Deletion
from tasks.deletion.rules import (
    DeletionError,
    Obstacle,
    archive_obstacles,
    archives_named,
    require_deletable,
    restore_command,
    stands_for,
)
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried_step
from tasks.orchestration.unfinished_runs import UnfinishedRun, list_unfinished_runs
from tasks.pipelines.rules import CHAMPION_ARCHIVES
from tasks.pipelines.steps import loop_archive
from tasks.review.asked_images import REVIEWED, loop_folder
from tasks.storage.fence import announced_change
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.storage.steps import object_name, require_object
from tasks.tracking.lineage import archives_of
from tasks.tracking.registered_models import CHAMPION
from tasks.tracking.registered_versions import find_model, list_versions
from tasks.validation.check_records import delete_checks, read_checks

_DATASETS = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)
# The flows that read archives.
_READING = (
    "validate-dataset",
    "import-dataset",
    "train-model",
    "register-model",
    "evaluate-model",
    "find-label-errors",
    "label-images",
    "run-pipeline",
)
_LOOP = "close-loop"


class ReplacedError(DeletionError):
    """Another archive has come in the place of the one to be deleted, and stays."""

    def __init__(self, archive: str) -> None:
        """Say so of an archive, given by its key."""
        super().__init__(
            f"Expected {_DATASETS.uri(archive)} as it was when this run began, found that it was replaced since. The "
            f"new archive stays, and nothing is deleted. Start delete-dataset again if the new one shall go."
        )


@retried_step
def find_archive(archive: str) -> Deletion:
    """Return what is to be deleted.

    Raises:
        StorageError: There is no such archive.
        DeletionError: It is in another bucket.
        ReplacedError: Another archive came in its place while it was read.
    """
    name = object_name(archive, Bucket.DATASETS)
    if name.bucket != Bucket.DATASETS:
        raise DeletionError(
            f"Expected an archive of bucket {Bucket.DATASETS}, found {name}. Delete it with the tools of that store."
        )
    require_object(name, "a dataset archive", "`studio datasets` lists them.")
    stored = _DATASETS.find(name.key)
    if stored is None:
        raise DeletionError(f"Expected {name}, found that it went a moment ago. Somebody else has deleted it.")
    check = read_checks([(name.key, stored.etag)])[0]
    version_id = _DATASETS.version_id(name.key, stored.etag)
    digest = check.digest if check else _DATASETS.sha256(name.key, stored.etag)
    if digest is None:
        raise ReplacedError(name.key)
    restore = restore_command(Bucket.DATASETS, name.key, version_id)
    kept = {"restore": restore} if restore else {}
    if check:
        folder = f"s3://{Bucket.RUNS}/{check.flow_run_id}"
        kept |= {"report": f"{folder}/report.html", "findings": f"{folder}/report.json"}
    tombstone = Tombstone(
        kind=Kind.DATASET,
        name=name.key,
        digest=digest,
        deleted=datetime.now(UTC),
        flow_run_id=flow_run_id(),
        kept=kept,
    )
    payload = {"archive": name.key, "digest": digest, "versions": list_trained(name.key, digest), "restore": restore}
    return Deletion(
        tombstone=tombstone, event=events.DATASET_DELETED, payload=payload, etag=stored.etag, version_id=version_id
    )


@retried_step
def archive_is_there(deletion: Deletion) -> bool:
    """Return whether the archive is still there; False if it is gone.

    Raises:
        ReplacedError: Another archive came in its place, which stays.
    """
    stored = _DATASETS.find(deletion.name)
    if stored is None:
        return False
    if (stored.etag, _DATASETS.version_id(deletion.name, stored.etag)) != (deletion.etag, deletion.version_id):
        raise ReplacedError(deletion.name)
    return True


@retried_step
def require_unused_archive(deletion: Deletion, force: bool) -> None:
    """Return if no version was trained on the archive, and no unfinished run reads it.

    Raises:
        DeletionError: One was, or does, and `force` is not set.
    """
    obstacles = find_obstacles(deletion.name, deletion.tombstone.digest or "")
    require_deletable(f"archive {deletion.name}", obstacles, force=force)


def find_obstacles(archive: str, digest: str) -> list[Obstacle]:
    """Return what needs an archive now.

    Args:
        archive: Its key in bucket `datasets`.
        digest: The SHA-256 of its bytes, in hex; empty if nobody has read them.

    Raises:
        PrefectUnavailableError: The server does not answer.
        TrackingError: MLflow cannot be reached.
    """
    trained = _trained()
    runs = [run.name for run in list_unfinished_runs(*_READING) if _reads(run, archive, trained)]
    loops = [
        run.name for run in list_unfinished_runs(_LOOP) if _reads(run, archive, trained) or _reads_as_loop(run, archive)
    ]
    return archive_obstacles(archive, digest, trained, [*runs, *loops])


@retried_step
def remove_archive(deletion: Deletion) -> None:
    """Remove the archive, and the records of its checks, whose reports stay.

    Raises:
        ReplacedError: Another archive came in its place, which stays.
    """
    with announced_change(flow_run_id()):
        while archive_is_there.fn(deletion):  # asked first for stores that delete without a condition
            if _DATASETS.delete_content(deletion.name, deletion.etag):
                break
        delete_checks(deletion.name)


def list_trained(archive: str, digest: str) -> list[str]:
    """Return the versions, such as `shapes/3`, that were trained on an archive of this name or on these bytes.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    return sorted(
        version
        for version, archives in _trained().items()
        if archive in archives or (digest and digest in archives.values())
    )


def _trained() -> dict[str, dict[str, str]]:
    return {version.name: archives_of(version.tags) for version in list_versions()}


def _reads(run: UnfinishedRun, archive: str, trained: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a run names the archive, or reads it because the champion of its model was trained on it."""
    entries = archives_named(run.parameters)
    if CHAMPION_ARCHIVES in entries:
        model = find_model(str(run.parameters.get("model_name")))
        champion = model.aliases.get(CHAMPION) if model else None
        entries += trained.get(f"{model.name}/{champion}", ()) if model else ()
    return any(stands_for(entry, archive) for entry in entries)


def _reads_as_loop(run: UnfinishedRun, archive: str) -> bool:
    """Whether a loop goes on to train on an archive: one that it has made, or that a loop of its model has reviewed."""
    model_name = str(run.parameters.get("model_name"))
    reviewed = archive.startswith(loop_folder(model_name)) and archive.endswith(f"-{REVIEWED}")
    return reviewed or archive.startswith(loop_archive(model_name, run.id))

"""The deletion of an archive."""

from datetime import UTC, datetime

from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.deletion.journal import Deletion
from tasks.deletion.rules import DeletionError, Obstacle, archive_obstacles, require_deletable, restore_command
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried_step
from tasks.orchestration.unfinished_runs import UnfinishedRun, list_unfinished_runs
from tasks.storage.object_names import Bucket, parse_s3_uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.storage.steps import object_name, require_object
from tasks.tracking.lineage import archives_of
from tasks.tracking.registered_versions import list_versions
from tasks.validation.check_records import delete_checks, read_checks

_DATASETS = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)


@retried_step
def find_archive(archive: str) -> Deletion:
    """Return what is to be deleted.

    Raises:
        StorageError: There is no such archive.
        DeletionError: It is in another bucket.
    """
    name = object_name(archive, Bucket.DATASETS)
    if name.bucket != Bucket.DATASETS:
        raise DeletionError(
            f"Expected an archive of bucket {Bucket.DATASETS}, found {name}. Delete it with the tools of that store."
        )
    require_object(name, "a dataset archive", "`make datasets` lists them.")
    stored = _DATASETS.find(name.key)
    if stored is None:
        raise DeletionError(f"Expected {name}, found that it went a moment ago. Somebody else has deleted it.")
    check = read_checks([(name.key, stored.etag)])[0]
    version_id = _DATASETS.version_id(name.key)
    digest = check.digest if check else _DATASETS.sha256(name.key, stored.etag)
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
    """Return whether these very bytes are still there; an archive that came in their place is another."""
    stored = _DATASETS.find(deletion.name)
    same = stored is not None and stored.etag == deletion.etag
    return same and _DATASETS.version_id(deletion.name) == deletion.version_id


@retried_step
def require_unused_archive(deletion: Deletion, force: bool) -> None:
    """Return if no version was trained on the archive, and no unfinished run names it.

    Raises:
        DeletionError: One was, or does, and `force` is not set.
    """
    obstacles = find_obstacles(deletion.name, deletion.tombstone.digest or "", but=flow_run_id())
    require_deletable(f"archive {deletion.name}", obstacles, force=force)


def find_obstacles(archive: str, digest: str, *, but: str = "") -> list[Obstacle]:
    """Return what needs an archive now.

    Args:
        archive: Its key in bucket `datasets`.
        digest: The SHA-256 of its bytes, in hex; empty if nobody has read them.
        but: The id of a flow run that may name it.

    Raises:
        PrefectUnavailableError: The server does not answer.
        TrackingError: MLflow cannot be reached.
    """
    runs = [run.name for run in list_unfinished_runs() if run.id != but and _names(run, archive)]
    return archive_obstacles(archive, digest, _trained(), runs)


@retried_step
def remove_archive(deletion: Deletion) -> None:
    """Remove the records of its checks, whose reports stay, and then the archive."""
    delete_checks(deletion.name)
    _DATASETS.delete(deletion.name)


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
    return {f"{version.model}/{version.number}": archives_of(version.tags) for version in list_versions()}


def _names(run: UnfinishedRun, archive: str) -> bool:
    given = run.parameters.get("archives")
    named = [run.parameters.get("archive"), *(given if isinstance(given, list) else [])]
    return any(isinstance(each, str) and _key_of(each) == archive for each in named)


def _key_of(name: str) -> str:
    """The key in bucket `datasets` that a parameter names; empty if it names something else."""
    try:
        uri = parse_s3_uri(name, Bucket.DATASETS)
    except ValueError:
        return ""
    return uri.key if uri.bucket == Bucket.DATASETS else ""

"""The archive that an import publishes: under a name of its own, never in the place of another."""

from pathlib import Path

from tasks.dataset_watch.rules import SOURCES, is_archive, refusal
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.importing.import_records import ImportRecord, write_import
from tasks.importing.importer import ImportSummary
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried_step
from tasks.storage.multipart_uploads import WRITER, upload_if_absent
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.storage.steps import object_name


class ArchiveNameError(StudioError):
    """A name under which an import publishes nothing."""


class NameTakenError(ArchiveNameError):
    """Another archive has the name."""

    def __init__(self, key: str) -> None:
        """Say so of a key in bucket `datasets`."""
        found = f"{safe_repr(key)} in bucket {Bucket.DATASETS} already"
        super().__init__(expected_found_fix("a new name", found, "Nothing is replaced: choose another name."))


@retried_step
def require_free_name(archive: str) -> str:
    """Return the key in bucket `datasets` for a new archive; one that this run has published there is its own.

    Raises:
        ArchiveNameError: No archive that is made here can have the name.
        NameTakenError: Another archive has it.
        StorageError: The object store refuses, or does not answer.
    """
    name = object_name(archive, Bucket.DATASETS)
    if name.bucket != Bucket.DATASETS or not is_archive(name.key):
        expected = f"a name in bucket {Bucket.DATASETS} that ends in .zip, outside folder {SOURCES}"
        raise ArchiveNameError(expected_found_fix(expected, safe_repr(archive), "Choose such a name."))
    if reason := refusal(name.key):
        raise ArchiveNameError(f"{safe_repr(archive)}: {reason}. Choose another name.")
    stored = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE).metadata(name.key)
    if stored is not None and stored.get(WRITER) != flow_run_id():
        raise NameTakenError(name.key)
    return name.key


@retried_step
def record_import(digest: str, source: str, source_digest: str, summary: ImportSummary) -> None:
    """Keep what an archive was made from; the digests are SHA-256 in hex, of the archive and of its source.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    record = ImportRecord(
        digest=digest,
        source=object_name(source, Bucket.DATASETS).name_for(Bucket.DATASETS),
        source_digest=source_digest,
        format=summary.format,
        changes=dict(summary.changes),
        flow_run_id=flow_run_id(),
    )
    write_import(record)


@retried_step
def publish_archive(path: Path, key: str) -> None:
    """Put the archive into bucket `datasets`, whole or not at all, unless this run has already.

    Raises:
        NameTakenError: Another archive has come under the name meanwhile.
        StorageError: The object store refuses, or does not answer.
    """
    if not upload_if_absent(Bucket.DATASETS, key, path, flow_run_id()):
        raise NameTakenError(key)

"""Checks that nobody asked for by hand: one run of validate-dataset for each content of each archive."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

from tasks.dataset_watch.notifications import ObjectChange
from tasks.dataset_watch.rules import EXTENSION, ArchiveVersion, is_archive, refusal
from tasks.errors import StudioError
from tasks.orchestration import deployed_flows
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.ranged_reads import head_object
from tasks.storage.s3_client import TRANSFERS
from tasks.validation.check_records import list_checks

FLOW = "validate-dataset"
FOLDER = "watched"
QUEUE = "checks"
TAG = "watched"
_MAX_NAME = 100
_RUNS = ObjectStore(Bucket.RUNS)


@dataclass(frozen=True, kw_only=True)
class StartedCheck:
    """What follows from an object that was written: the id of the flow run that checks it, or why there is none."""

    key: str
    flow_run: UUID | None = None
    reason: str = ""


def start_checks(changes: Sequence[ObjectChange]) -> tuple[StartedCheck, ...]:
    """Start the check of each archive that was written, unless it was started before.

    Nothing is lost by an error: the next watch finds the archive.

    Raises:
        PrefectUnavailableError: Prefect's server does not answer.
        StorageError: The object store does not answer.
    """
    return tuple(map(_start_changed, changes))


def _start_changed(change: ObjectChange) -> StartedCheck:
    if change.bucket != Bucket.DATASETS or not is_archive(change.key):
        expected = f"only archives in bucket {Bucket.DATASETS} are checked, whose names end in {EXTENSION}"
        return StartedCheck(key=change.key, reason=expected)
    try:
        etag = change.etag or head_object(S3Uri(Bucket.DATASETS, change.key), "").etag
        archive = ArchiveVersion(key=change.key, etag=etag)
        if reason := refusal(archive):
            return StartedCheck(key=change.key, reason=reason)
        return StartedCheck(key=change.key, flow_run=start_check(archive))
    except StudioError as error:
        if error.transient:
            raise
        return StartedCheck(key=change.key, reason=str(error))


def start_check(archive: ArchiveVersion) -> UUID:
    """Start the check of an archive, unless it was started before; returns the id of its flow run.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: The server refuses the run.
    """
    return deployed_flows.start(
        FLOW,
        {"archive": archive.address},
        name=f"check {archive.key}"[:_MAX_NAME],
        idempotency_key=archive.idempotency_key,
        tags=[TAG],
        queue=QUEUE,
    )


def list_known() -> frozenset[str]:
    """Return the `check_id`s of all that needs no check: it has a verdict, or its check was started before.

    Raises:
        StorageError: The object store does not answer.
    """
    marks = (key.removeprefix(f"{FOLDER}/") for key in _RUNS.keys(f"{FOLDER}/"))
    return frozenset([*marks, *list_checks()])


def mark(*names: str) -> None:
    """Note of each `check_id` that its check was started.

    Raises:
        StorageError: The object store does not answer.
    """
    with ThreadPoolExecutor(TRANSFERS) as pool:
        list(pool.map(lambda name: _RUNS.put(f"{FOLDER}/{name}", b""), names))

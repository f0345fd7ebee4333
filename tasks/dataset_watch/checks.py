"""Checks of what was uploaded: one run of validate-dataset for each content of each archive."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tasks.dataset_watch.notifications import ObjectChange
from tasks.dataset_watch.rules import NO_ARCHIVE, QUEUE, FoundArchive, is_archive, refusal
from tasks.errors import StudioError
from tasks.orchestration import deployed_flows, run_history
from tasks.orchestration.child_runs import RunState, started_by
from tasks.storage.multipart_uploads import WRITER
from tasks.storage.object_names import Bucket, key_in
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS
from tasks.validation.check_records import OF_PIPELINE, WATCHED

FLOW = "validate-dataset"
FOLDER = "watched"
INVALID = "Invalid"
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
        return StartedCheck(
            key=change.key, reason=f"only archives in bucket {Bucket.DATASETS} are checked: {NO_ARCHIVE}"
        )
    if reason := refusal(change.key):
        return StartedCheck(key=change.key, reason=reason)
    try:
        stored = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE).find(change.key)
        if stored is None:
            return StartedCheck(key=change.key, reason="it is gone")
        found = FoundArchive(key=change.key, etag=stored.etag, modified=stored.modified)
        return StartedCheck(key=change.key, flow_run=start_check(found))
    except StudioError as error:
        if error.transient:
            raise
        return StartedCheck(key=change.key, reason=str(error))


def start_check(archive: FoundArchive, *, by_itself: bool = True) -> UUID:
    """Start the check of an archive, unless it was started since it was written; returns the id of its flow run.

    One that failed without a verdict is started again. A check that begins by itself starts the pipelines which wait
    for new archives, unless a pipeline has made this one: it goes on with it.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StorageError: The object store does not answer.
        StudioError: The server refuses the run, or somebody has started another one with its key.
    """
    key = archive.idempotency_key
    tags = [WATCHED] if by_itself else []
    tags += [OF_PIPELINE] if by_itself and _is_of_pipeline(archive) else []
    parameters = {"archive": archive.address}
    while True:
        run = deployed_flows.start(
            FLOW,
            parameters,
            name=f"check {archive.key}"[:_MAX_NAME],
            idempotency_key=key,
            tags=tags,
            queue=QUEUE if by_itself else None,
        )
        known = deployed_flows.find(run)
        check = RunState.of(known) if known else None
        if check is None or not (has_failed(check) or _is_of_before(check, archive)):
            deployed_flows.require_parameters(FLOW, run, parameters)
            return run
        key = _key_behind(key, run)


def _is_of_pipeline(archive: FoundArchive) -> bool:
    """Whether a run that a pipeline has started has written it."""
    written = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE).metadata(archive.key) or {}
    try:
        writer = UUID(written.get(WRITER, ""))
    except ValueError:  # a person has
        return False
    run = deployed_flows.find(writer)
    return run is not None and started_by(run.tags) is not None


def list_started(archive: FoundArchive) -> list[RunState]:
    """Return the checks that `start_check` has started of an archive as it is now, the oldest first.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    checks: list[RunState] = []
    key = archive.idempotency_key
    while check := run_history.find_by_key(FLOW, key):
        checks += [] if _is_of_before(check, archive) else [check]
        key = _key_behind(key, check.id)
    return checks


def list_failures() -> dict[str, list[datetime]]:
    """Return of each key when checks that began by themselves failed without a verdict.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    failures: dict[str, list[datetime]] = {}
    for run in run_history.list_unsuccessful(FLOW, WATCHED, apart_from=INVALID):
        key, check = archive_key(run.parameters), RunState.of(run)
        if key and has_failed(check):
            failures.setdefault(key, []).append(check.since)
    return failures


def has_failed(check: RunState) -> bool:
    """Return whether a check ended for good without a verdict, and nobody has cancelled it."""
    had_its_way = check.completed or check.is_cancelled or check.state == INVALID
    return check.is_over(datetime.now(UTC)) and not had_its_way


def archive_key(parameters: Mapping[str, object]) -> str | None:
    """Return the key in bucket `datasets` of what a run checks; None if that is elsewhere."""
    return key_in(Bucket.DATASETS, str(parameters.get("archive", "")))


def _is_of_before(check: RunState, archive: FoundArchive) -> bool:
    """Whether it checked an earlier upload of the same bytes, which somebody has deleted since."""
    return check.has_stopped and check.since < archive.written


def _key_behind(key: str, run: UUID) -> str:
    return hashlib.sha256(f"{key}{run}".encode()).hexdigest()


def list_marks() -> dict[str, datetime]:
    """Return when the check of each `check_id` was started.

    Raises:
        StorageError: The object store does not answer.
    """
    prefix = f"{FOLDER}/"
    return {stored.key.removeprefix(prefix): stored.modified for stored in _RUNS.list(prefix)}


def mark(*names: str) -> None:
    """Note of each `check_id` that its check was started.

    Raises:
        StorageError: The object store does not answer.
    """
    with ThreadPoolExecutor(TRANSFERS) as pool:
        list(pool.map(lambda name: _RUNS.put(f"{FOLDER}/{name}", b""), names))

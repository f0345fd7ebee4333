"""Steps of watch-datasets: what has not been checked, and the checks that are missing."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice

from prefect import get_run_logger

from tasks.dataset_watch import checks, rules
from tasks.dataset_watch.notifications import ObjectChange
from tasks.dataset_watch.report import StartedChecks
from tasks.dataset_watch.rules import FoundArchive, Survey
from tasks.errors import StudioError
from tasks.orchestration import run_history
from tasks.orchestration.step import SERVICE_RESTART, retried_step, step
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.validation.check_records import list_checks

FIRST_WATCH = "first-watch"  # the last mark of the first watch


@step
def survey_archives() -> Survey:
    """List bucket `datasets`, and which of its archives are to be checked.

    Before this flow there were checks without a record. So the first watch looks for them among the flow runs.

    Raises:
        StudioError: The object store or Prefect's server does not answer for minutes.
    """
    marks = checks.list_marks()
    found = rules.survey(_list_objects(), list_checks(), marks, checks.list_failures())
    if FIRST_WATCH in marks:
        return found
    checked = rules.find_checked(found.unchecked, _read_old_checks(found.unchecked))
    checks.mark(*(archive.check_id for archive in checked))
    checks.mark(FIRST_WATCH)
    return replace(found, unchecked=tuple(each for each in found.unchecked if each not in checked))


@step
def start_missing_checks(archives: Sequence[FoundArchive], limit: int) -> StartedChecks:
    """Start the check of the first `limit` archives, and mark each that was started.

    Raises:
        StudioError: Prefect's server or the object store does not answer for minutes.
    """
    log = get_run_logger()
    runs: dict[str, str] = {}
    refused: dict[str, str] = {}
    for found in islice(archives, limit):
        try:
            runs[found.key] = str(SERVICE_RESTART.call(partial(checks.start_check, found)))
        except StudioError as error:
            if error.transient:
                raise
            refused[found.key] = str(error)
            log.warning("%s is not checked: %s", found.key, error)
            continue
        checks.mark(found.check_id)
        log.info("%s is new or has changed: flow run %s checks it", found.key, runs[found.key])
    return StartedChecks(runs=runs, refused=refused, waiting=max(len(archives) - limit, 0))


@retried_step
def start_check(archive: str) -> None:
    """Start the check of an archive that was just written, a key in bucket `datasets`.

    Raises:
        StudioError: Prefect's server or the object store does not answer for minutes.
    """
    (started,) = checks.start_checks((ObjectChange(bucket=Bucket.DATASETS, key=archive),))
    if started.flow_run:
        get_run_logger().info("flow run %s checks %s", started.flow_run, archive)
    else:
        get_run_logger().warning("%s is not checked: %s", archive, started.reason)


def _list_objects() -> Iterator[FoundArchive]:
    for listed in ObjectStore(Bucket.DATASETS).list():
        if not listed.key.endswith("/"):  # a folder that a console has made
            yield FoundArchive(key=listed.key, etag=listed.etag, modified=listed.modified)


def _read_old_checks(archives: Collection[FoundArchive]) -> dict[str, datetime]:
    """When the newest check of each key began that has a verdict."""
    newest: dict[str, datetime] = {}
    for run in run_history.list_runs(checks.FLOW) if archives else ():
        key = checks.archive_key(run.parameters)
        if key and run.start_time and run.state and (run.state.is_completed() or run.state.name == checks.INVALID):
            newest[key] = max(run.start_time, newest.get(key, run.start_time))
    return newest

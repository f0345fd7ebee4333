"""What Prefect knows of the runs whose lines are asked for: which they are, and their own log."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
)
from prefect.client.schemas.objects import Log
from prefect.client.schemas.sorting import FlowRunSort, LogSort

from infra.logs.lines import LEVELS, Line
from infra.logs.query import Query
from infra.logs.reader import Check, go_on
from tasks.log_lines import FLOW, subjects_of
from tasks.orchestration.child_runs import tags_of_children
from tasks.orchestration.prefect_client import RUNS_PER_REQUEST, list_flow_runs, prompt_client, read_flow_runs
from tasks.orchestration.run_log import is_routine

MOST_EXAMINED = 2000  # runs, the newest, of which those about a model or an archive are chosen
MOST_RUNS = RUNS_PER_REQUEST  # whose lines are read
_LINES_PER_REQUEST = 200  # the most that the server gives


def add_children(query: Query) -> Query:
    """Return the query with the runs that its runs have started, and those that these have started.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    known = [UUID(run) for run in query.runs]
    new = known
    while new and len(known) < MOST_RUNS:
        tags = [tag for run in new for tag in tags_of_children(run)]
        chosen = FlowRunFilter(tags=FlowRunFilterTags(any_=tags))
        started = list_flow_runs(chosen, limit=MOST_RUNS, connect=prompt_client)
        new = [run.id for run in started if run.id not in known]
        known = [*known, *new][:MOST_RUNS]
    return replace(query, runs=list(map(str, known)))


def add_runs_about(query: Query) -> Query:
    """Return the query with the runs that are about its model and its archive, of the newest that Prefect knows.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    if not query.model and not query.archive:
        return query
    due = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=query.since))
    runs = list_flow_runs(
        due if query.since else None,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=MOST_EXAMINED,
        connect=prompt_client,
    )
    found = []
    for run in runs:
        subjects = subjects_of(run.parameters)
        named = [subjects.get("model"), *_archives(subjects)]
        if all(name in named for name in (query.model, query.archive) if name):
            found.append(str(run.id))
            if len(found) == MOST_RUNS:
                break
    return replace(query, about=found)


def _archives(subjects: dict[str, object]) -> list[object]:
    archives = subjects.get("archives")
    return archives if isinstance(archives, list) else []


def read_run_log(
    query: Query, *, newest_first: bool = False, until: datetime | None = None, check: Check = go_on
) -> Iterator[Line]:
    """Yield what Prefect has of the runs of a query, at the latest at `until`; nothing if the query names no run.

    `check` is asked before each page of lines.

    Raises:
        SearchEndedError: `check` did.
        PrefectUnavailableError: The server does not answer.
    """
    runs = [UUID(run) for run in [*query.runs, *query.about]][:MOST_RUNS]
    services = {FLOW, "worker"}
    if not runs or (query.services and not services & set(query.services)):
        return
    chosen = LogFilter(
        flow_run_id=LogFilterFlowRunId(any_=runs),
        timestamp=LogFilterTimestamp(after_=query.since, before_=until or query.until),
    )
    sort = LogSort.TIMESTAMP_DESC if newest_first else LogSort.TIMESTAMP_ASC
    offset = 0
    while True:
        check()
        with prompt_client() as client:
            page = client.read_logs(chosen, limit=_LINES_PER_REQUEST, offset=offset, sort=sort)
        yield from filter(query.has, map(_line, page))
        offset += len(page)
        if len(page) < _LINES_PER_REQUEST:
            return


def is_over(runs: Collection[str]) -> bool:
    """Return whether all of these runs have ended, as far as Prefect knows them.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    states = [run.state for run in read_flow_runs([UUID(run) for run in runs])]
    return all(state is not None and state.is_final() for state in states)


def _line(log: Log) -> Line:
    run = str(log.flow_run_id)
    of_worker = log.name.startswith("prefect.flow_runs.")
    return Line(
        time=log.timestamp,
        level="debug" if is_routine(log.name, log.level, log.message) else _level(log.level),
        service="worker" if of_worker else FLOW,
        logger=log.name,
        message=log.message,
        fields={"flow_run_id": run},
        raw=run.encode(),
    )


def _level(number: int) -> str:
    """The name of a level; of one between two that of the one below."""
    return LEVELS[min(max(number // 10 - 1, 0), len(LEVELS) - 1)]

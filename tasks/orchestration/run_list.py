"""Lists of flow runs: what goes on, what has ended, and what runs have started; a few requests for a whole list."""

import functools
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any, NamedTuple, Self
from uuid import UUID

from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterStateName,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
    Operator,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort, LogSort
from prefect.settings import PREFECT_API_URL

from tasks.orchestration.child_runs import RunState, read_runs, started_by, tags_of_children
from tasks.orchestration.deployed_flows import LogLine
from tasks.orchestration.prefect_client import RUNS_PER_REQUEST, Connect, in_state, list_flow_runs, prompt_client
from tasks.orchestration.starters import Starter, starter_of

MOST = RUNS_PER_REQUEST  # or bars, or lines
_UNFINISHED = frozenset(StateType) - TERMINAL_STATES


class Place(NamedTuple):
    """Where a part of the list of ended runs ends: at this run, which ended at this time."""

    time: datetime
    run: UUID


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A flow run in a list: its `state`, its flow (`train-model`), and the run or person that started it, if any."""

    state: RunState
    flow: str
    parameters: Mapping[str, Any]
    ended: datetime | None
    parent: UUID | None
    starter: Starter | None = None

    @classmethod
    def of(cls, run: FlowRun) -> Self:
        """Return what a list says of a run."""
        return cls(
            state=RunState.of(run),
            flow=flow_name(run.flow_id),
            parameters=run.parameters,
            ended=run.end_time,
            parent=started_by(run.tags),
            starter=starter_of(run.tags),
        )

    @property
    def id(self) -> UUID:
        """The id of the run."""
        return self.state.id

    @property
    def place(self) -> Place | None:
        """Its place in the list of ended runs; None if it has not ended."""
        return Place(self.ended, self.id) if self.ended else None


@dataclass(frozen=True, kw_only=True)
class RunChoice:
    """Which runs a list has: those of these flows, in states of these types, but of none of these names.

    Without flows or types it has them all.
    """

    flows: Collection[str] = ()
    types: Collection[StateType] = ()
    hidden: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How much of a run is done, from 0 to 1, and how that goes on in words."""

    share: float
    words: str


def list_unfinished(choice: RunChoice) -> list[ListedRun]:
    """Return the runs that have not ended and are due, the newest first; at most `MOST`.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    due = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)))
    return _choose(choice, _UNFINISHED, due, FlowRunSort.EXPECTED_START_TIME_DESC, MOST)


def list_ended(choice: RunChoice, behind: Place | None = None, limit: int = 50) -> list[ListedRun]:
    """Return the runs that ended last, or those behind a place in that list.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=behind.time if behind else None, is_null_=False))
    if behind:
        chosen.id = FlowRunFilterId(not_any_=[behind.run])
    return _choose(choice, TERMINAL_STATES, chosen, FlowRunSort.END_TIME_DESC, limit)


def list_ended_since(choice: RunChoice, place: Place) -> list[ListedRun]:
    """Return the runs from the newest to a place in the list of those that have ended; at most `MOST`.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=place.time))
    return _choose(choice, TERMINAL_STATES, chosen, FlowRunSort.END_TIME_DESC, MOST)


def read_relatives(runs: Collection[ListedRun]) -> list[ListedRun]:
    """Return the runs that these have started, and those that have started these, the newest first.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    if not runs:
        return []
    parents = sorted({run.parent for run in runs if run.parent})
    tags = [tag for run in runs for tag in tags_of_children(run.id)]
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=parents), tags=FlowRunFilterTags(any_=tags))
    chosen.operator = Operator.or_
    return _read(chosen, FlowRunSort.EXPECTED_START_TIME_DESC)


def find_waiting(runs: Collection[RunState]) -> dict[UUID, RunState]:
    """Return of each suspended run the one that says what is waited for: itself, or a suspended run that it waits for.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    known = {run.id: run for run in runs}
    wanted = {run.awaited for run in runs if run.awaited} - known.keys()
    while wanted:
        found = read_runs(wanted)  # one that was deleted is missing
        known |= found
        wanted = {run.awaited for run in found.values() if run.awaited} - known.keys()

    def last(run: RunState) -> RunState:
        passed = {run.id}
        while (awaited := known.get(run.awaited) if run.awaited else None) and awaited.is_paused:
            if awaited.id in passed:  # who may change runs may have them wait for one another
                break
            passed.add(awaited.id)
            run = awaited
        return run

    return {run.id: last(run) for run in runs if run.is_paused}


def read_progress(runs: Collection[UUID], connect: Connect = prompt_client) -> dict[UUID, Progress]:
    """Return how much is done of each of these runs that says so.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    if not runs:
        return {}
    chosen = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=list(runs)), type=ArtifactFilterType(any_=["progress"])
    )
    with connect() as client:
        bars = client.read_artifacts(artifact_filter=chosen, limit=MOST, sort=ArtifactSort.UPDATED_DESC)
    return {
        bar.flow_run_id: Progress(share=float(bar.data or 0) / 100, words=bar.description or "")  # type: ignore[arg-type]
        for bar in reversed(bars)  # of two of a run the one that changed last counts
        if bar.flow_run_id
    }


def read_newest_lines(runs: Collection[UUID]) -> dict[UUID, LogLine]:
    """Return the newest line of each of these runs that is among the newest `MOST` lines of all of them.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    if not runs:
        return {}
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=list(runs)))
    with prompt_client() as client:
        lines = client.read_logs(chosen, limit=MOST, sort=LogSort.TIMESTAMP_DESC)
    return {
        line.flow_run_id: LogLine(time=line.timestamp, level=line.level, text=line.message)
        for line in reversed(lines)
        if line.flow_run_id
    }


def _choose(
    choice: RunChoice, types: Collection[StateType], chosen: FlowRunFilter, sort: FlowRunSort, limit: int
) -> list[ListedRun]:
    """Those of the runs of a choice that are in a state of `types`, and that a filter chooses."""
    possible = set(choice.types or types) & set(types)
    if not possible:
        return []
    chosen.state = in_state(*sorted(possible))
    if choice.hidden:
        chosen.state.name = FlowRunFilterStateName(not_any_=sorted(choice.hidden))
    flows = FlowFilter(name=FlowFilterName(any_=sorted(choice.flows))) if choice.flows else None
    return _read(chosen, sort, flows, limit)


def _read(
    chosen: FlowRunFilter, sort: FlowRunSort, flows: FlowFilter | None = None, limit: float = inf
) -> list[ListedRun]:
    runs = list_flow_runs(chosen, flows=flows, sort=sort, limit=limit, connect=prompt_client)
    return [ListedRun.of(run) for run in runs]


def flow_name(flow: UUID) -> str:
    """Return the name of a flow.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    return _flow_name(PREFECT_API_URL.value(), os.getpid(), flow)


@functools.lru_cache(maxsize=1000)
def _flow_name(_server: str | None, _process: int, flow: UUID) -> str:
    """The name of a flow, which never changes."""
    with prompt_client() as client:
        return str(client.read_flow(flow).name)

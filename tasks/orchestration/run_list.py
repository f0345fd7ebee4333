"""Lists of flow runs: what goes on, what has ended, and what runs have started; a few requests for a whole list."""

import functools
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
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
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
    Operator,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort, LogSort
from prefect.settings import PREFECT_API_URL

from tasks.orchestration.child_runs import RunState, started_by, tags_of_children
from tasks.orchestration.deployed_flows import LogLine
from tasks.orchestration.prefect_client import fail_fast_client, server_errors

MOST = 200  # runs, bars or lines that the server gives in an answer
_UNFINISHED = frozenset(StateType) - TERMINAL_STATES


class Place(NamedTuple):
    """Where a part of the list of ended runs ends: at this run, which ended at this time."""

    time: datetime
    run: UUID


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A flow run in a list: its `state`, its flow (`train-model`), and the run that has started it, if one has."""

    state: RunState
    flow: str
    parameters: Mapping[str, Any]
    ended: datetime | None
    parent: UUID | None

    @classmethod
    def of(cls, run: FlowRun) -> Self:
        """Return what a list says of a run."""
        return cls(
            state=RunState.of(run),
            flow=_flow_name(PREFECT_API_URL.value(), os.getpid(), run.flow_id),
            parameters=run.parameters,
            ended=run.end_time,
            parent=started_by(run.tags),
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

    def within(self, possible: Collection[StateType]) -> list[StateType]:
        """Return those of the `possible` types that are chosen."""
        return sorted(set(self.types or possible) & set(possible))


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
    return _read(choice, choice.within(_UNFINISHED), due, FlowRunSort.EXPECTED_START_TIME_DESC, MOST)


def list_ended(choice: RunChoice, behind: Place | None = None, limit: int = 50) -> list[ListedRun]:
    """Return the runs that ended last, or those behind a place in that list.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=behind.time if behind else None, is_null_=False))
    if behind:
        chosen.id = FlowRunFilterId(not_any_=[behind.run])
    return _read(choice, choice.within(TERMINAL_STATES), chosen, FlowRunSort.END_TIME_DESC, limit)


def list_ended_since(choice: RunChoice, place: Place) -> list[ListedRun]:
    """Return the runs from the newest to a place in the list of those that have ended; at most `MOST`.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=place.time))
    return _read(choice, choice.within(TERMINAL_STATES), chosen, FlowRunSort.END_TIME_DESC, MOST)


def read_relatives(runs: Collection[ListedRun]) -> list[ListedRun]:
    """Return the runs that these have started, and those that have started these, the newest first; at most `MOST`.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    parents = sorted({run.parent for run in runs if run.parent})
    tags = [tag for run in runs for tag in tags_of_children(run.id)]
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=parents), tags=FlowRunFilterTags(any_=tags))
    chosen.operator = Operator.or_
    return _read(RunChoice(), None, chosen, FlowRunSort.EXPECTED_START_TIME_DESC, MOST)


def read_progress(runs: Collection[UUID]) -> dict[UUID, Progress]:
    """Return how much is done of each of these runs that says so.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    if not runs:
        return {}
    chosen = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=list(runs)), type=ArtifactFilterType(any_=["progress"])
    )
    with server_errors():
        bars = fail_fast_client().read_artifacts(artifact_filter=chosen, limit=MOST, sort=ArtifactSort.UPDATED_DESC)
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
    with server_errors():
        lines = fail_fast_client().read_logs(chosen, limit=MOST, sort=LogSort.TIMESTAMP_DESC)
    return {
        line.flow_run_id: LogLine(time=line.timestamp, level=line.level, text=line.message)
        for line in reversed(lines)
        if line.flow_run_id
    }


def _read(
    choice: RunChoice, types: list[StateType] | None, chosen: FlowRunFilter, sort: FlowRunSort, limit: int
) -> list[ListedRun]:
    """The runs that a filter chooses, in states of `types`; None means in any, and an empty list in none."""
    if types is not None:
        if not types:
            return []
        hidden = FlowRunFilterStateName(not_any_=sorted(choice.hidden)) if choice.hidden else None
        chosen.state = FlowRunFilterState(type=FlowRunFilterStateType(any_=types), name=hidden)
    named = FlowFilter(name=FlowFilterName(any_=sorted(choice.flows))) if choice.flows else None
    with server_errors():
        runs = fail_fast_client().read_flow_runs(flow_filter=named, flow_run_filter=chosen, sort=sort, limit=limit)
        return [ListedRun.of(run) for run in runs]


@functools.lru_cache(maxsize=1000)
def _flow_name(_server: str | None, _process: int, flow: UUID) -> str:
    """The name of a flow, which never changes."""
    return str(fail_fast_client().read_flow(flow).name)

"""Flow runs that have not come to their end: what they work on must stay."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType

from tasks.orchestration.prefect_client import in_state, list_flow_runs, read_flow_runs

# A worker takes up a crashed run within seconds; after that it waits for a person, maybe for ever.
CRASHED_FOR = timedelta(hours=1)
FLOW_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNFINISHED = [*(set(StateType) - TERMINAL_STATES), StateType.CRASHED]


class UnfinishedRun(NamedTuple):
    """A flow run that goes on, waits, or has just crashed."""

    id: str
    name: str
    parameters: dict[str, Any]


def list_unfinished_runs(*flows: str) -> list[UnfinishedRun]:
    """Return the runs of these flows (`train-model`), or of all, that have not ended.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    state = FlowRunFilter(state=in_state(*_UNFINISHED))
    names = FlowFilter(name=FlowFilterName(any_=list(flows))) if flows else None
    return [
        UnfinishedRun(str(run.id), run.name, run.parameters)
        for run in list_flow_runs(state, flows=names)
        if not has_ended(run)
    ]


def ended_runs(flow_runs: set[str]) -> tuple[set[str], set[str]]:
    """Return which of these flow runs have ended, and which Prefect knows: it forgets them after months.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    known = {str(run.id): has_ended(run) for run in read_flow_runs([UUID(run) for run in flow_runs])}
    return {run for run, ended in known.items() if ended}, set(known)


def has_ended(run: FlowRun) -> bool:
    """Return whether nobody goes on with a run by himself."""
    if run.state is None or not run.state.is_final():
        return False
    return not run.state.is_crashed() or datetime.now(UTC) - run.state.timestamp > CRASHED_FOR

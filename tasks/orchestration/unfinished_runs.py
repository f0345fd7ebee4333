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


def find_ends(flow_runs: set[str]) -> dict[str, datetime | None]:
    """Return when flow runs have ended, None of those that have not; without those that Prefect does not know.

    It forgets them after months.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    runs = read_flow_runs([UUID(run) for run in flow_runs])
    return {str(run.id): run.state.timestamp if run.state and has_ended(run) else None for run in runs}


def has_ended(run: FlowRun) -> bool:
    """Return whether nobody goes on with a run by himself."""
    if run.state is None or not run.state.is_final():
        return False
    return not run.state.is_crashed() or datetime.now(UTC) - run.state.timestamp > CRASHED_FOR

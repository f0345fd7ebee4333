"""The runs of a flow that the server knows, and those that a schedule has missed."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import httpx
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled

from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.orchestration.step import SERVICE_RESTART

R = TypeVar("R")
_RUNS_PER_REQUEST = 200  # the most that the server gives
SKIPPED = "Skipped"


def list_runs(flow: str) -> Iterator[FlowRun]:
    """Yield the runs of a flow that the server knows, the oldest first.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    named = FlowFilter(name=FlowFilterName(any_=[flow]))
    offset = 0

    def page(client: SyncPrefectClient) -> list[FlowRun]:
        return client.read_flow_runs(
            flow_filter=named,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=_RUNS_PER_REQUEST,
            offset=offset,
        )

    while runs := _ask(page):
        yield from runs
        offset += len(runs)


def skip_missed_runs() -> int:
    """Cancel the runs that the schedule of this deployment has made and no worker has begun in time.

    After hours without a worker, one run does what all of them would do. Returns how many there were.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    if not runtime.deployment.id:
        return 0
    own = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(runtime.deployment.id)]))
    due = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    message = f"Run '{runtime.flow_run.name}' does what this one was to do."
    skipped: State[None] = Cancelled(name=SKIPPED, message=message)

    def skip(client: SyncPrefectClient) -> int:
        runs = client.read_flow_runs(flow_run_filter=due, deployment_filter=own, limit=_RUNS_PER_REQUEST)
        missed = [run for run in runs if run.auto_scheduled and not run.run_count]
        for run in missed:
            client.set_flow_run_state(run.id, skipped)
        return len(missed)

    return _ask(skip)


def _ask(question: Callable[[SyncPrefectClient], R]) -> R:
    """What the server answers; while it is away, it is asked again."""

    def ask() -> R:
        try:
            with get_client(sync_client=True) as client:
                return question(client)
        except httpx.HTTPStatusError as error:
            if error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise
            raise PrefectUnavailableError(error) from error
        except (httpx.HTTPError, OSError, RuntimeError) as error:
            raise PrefectUnavailableError(error) from error

    return SERVICE_RESTART.call(ask)

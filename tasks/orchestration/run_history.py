"""The runs of a flow that the server knows, those that a schedule has missed, and when this one was begun."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled

from tasks.orchestration.child_runs import ENDED, RunState
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.prefect_client import in_state, list_flow_runs, patient_client, prompt_client
from tasks.orchestration.step import SERVICE_RESTART

SKIPPED = "Skipped"


def list_runs(flow: str) -> Iterator[FlowRun]:
    """Yield the runs of a flow that the server knows, the oldest first.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    return list_flow_runs(flows=_named(flow), sort=FlowRunSort.EXPECTED_START_TIME_ASC, patience=SERVICE_RESTART)


def list_unsuccessful(flow: str, tag: str, *, apart_from: str) -> Iterator[FlowRun]:
    """Yield the runs of a flow with this tag that are Failed or Crashed, but not those whose state has that name.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    state = in_state(StateType.FAILED, StateType.CRASHED)
    state.name = FlowRunFilterStateName(not_any_=[apart_from])
    chosen = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]), state=state)
    return list_flow_runs(chosen, flows=_named(flow), patience=SERVICE_RESTART)


def find_by_key(flow: str, idempotency_key: str) -> RunState | None:
    """Return the run of a flow that was started with this key; None if none was.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[idempotency_key]))
    found = next(list_flow_runs(chosen, flows=_named(flow), limit=1, connect=prompt_client), None)
    return RunState.of(found) if found else None


def _named(flow: str) -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=[flow]))


def skip_missed_runs() -> int:
    """Cancel the runs that the schedule of this deployment has made and no worker has begun in time.

    After hours without a worker, one run does what all of them would do. Returns how many there were.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    if not runtime.deployment.id:
        return 0
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[UUID(runtime.deployment.id)]),
        state=in_state(StateType.SCHEDULED),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    message = f"Run '{runtime.flow_run.name}' does what this one was to do."
    skipped: State[None] = Cancelled(name=SKIPPED, message=message)

    def skip() -> int:
        missed = [run for run in list_flow_runs(due) if run.auto_scheduled and not run.run_count]
        with patient_client() as client:
            for run in missed:
                client.set_flow_run_state(run.id, skipped)
        return len(missed)

    return SERVICE_RESTART.call(skip)


def begun_at() -> datetime:
    """Return when this flow run was begun, as `last_beginning` says.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """

    def read() -> list[State[Any]]:
        with patient_client() as client:
            return client.read_flow_run_states(UUID(flow_run_id()))

    return last_beginning(SERVICE_RESTART.call(read))


def last_beginning(states: Iterable[State[Any]]) -> datetime:
    """Return when a run was begun that has had these states, the oldest first; now if it was not.

    Its first attempt begins it, and the first after it had ended for good. A crash or a suspension interrupts it only.
    """
    began = None
    for state in states:
        if state.type in ENDED:
            began = None
        elif state.is_running() and began is None:
            began = state.timestamp
    return began or datetime.now(UTC)

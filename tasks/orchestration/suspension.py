"""A flow run that waits suspended: no process of it lives, and it is started again from its beginning."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Never
from uuid import UUID

from prefect import runtime
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import OrchestrationResult
from prefect.exceptions import Pause
from prefect.states import Suspended

from tasks.errors import StudioError
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.flow_runs import OwnershipGuard
from tasks.orchestration.prefect_client import patient_client
from tasks.orchestration.step import SERVICE_RESTART


def can_be_suspended() -> bool:
    """Return whether this flow run can be suspended: it must be one of a deployment, which starts it again."""
    return bool(runtime.deployment.id)


def suspend(
    message: str,
    *,
    until: datetime | None = None,
    form: Mapping[str, str] | None = None,
    awaited: UUID | None = None,
    place: str | None = None,
    then: Callable[[], None] | None = None,
) -> Never:
    """Suspend this flow run until it is resumed.

    Args:
        message: What it waits for, in words.
        until: When Prefect fails the run if it is still suspended; None for never.
        form: Keys of the inputs of this flow run that hold schema, description and response of a form which must be
            filled to resume it.
        awaited: The flow run that it waits for; `awaited_run` finds it again.
        place: Where people do what it waits for; `place_of` finds it again.
        then: Is called when the run is suspended, before this process ends: what it waits for may have come meanwhile.

    Raises:
        Pause: The run is suspended: this process ends, and the flow is started again when it is resumed.
        Superseded: Another process has been given this flow run.
        Cancelled: The flow run was cancelled.
        StudioError: Prefect refuses it.
        PrefectUnavailableError: The server does not answer for minutes.
    """
    OwnershipGuard()()
    wanted: State[Any] = Suspended(message=message, pause_expiration_time=until)
    wanted.state_details.run_input_keyset = dict(form) if form else None
    wanted.state_details.child_flow_run_id = awaited
    wanted.state_details.pause_key = place
    suspended = SERVICE_RESTART.call(lambda: _set_suspended(wanted))
    if then:
        then()
    raise Pause(state=suspended)


def awaited_run(state: State[Any]) -> UUID | None:
    """Return the flow run that a run suspended in this state waits for; None if it waits for none."""
    return state.state_details.child_flow_run_id if state.is_paused() else None


def place_of(state: State[Any]) -> str | None:
    """Return where people do what a run suspended in this state waits for; None if that is nowhere."""
    return state.state_details.pause_key if state.is_paused() else None


def reason_of(result: OrchestrationResult[Any]) -> str:
    """Return why Prefect did not do what it was asked."""
    return str(getattr(result.details, "reason", None) or result.status)


def _set_suspended(wanted: State[Any]) -> State[Any]:
    with patient_client() as client:
        result = client.set_flow_run_state(UUID(flow_run_id()), wanted)
    if result.state is None or not result.state.is_paused():  # paused already: the server's first reply was lost
        raise StudioError(f"Expected that Prefect suspends this run, found that it refuses: {reason_of(result)}")
    return result.state

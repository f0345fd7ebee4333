"""Flow runs by their id: whether one has ended, how to cancel it, and whose this one is."""

import functools
import time
from collections.abc import Callable
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, Pause
from prefect.states import Cancelled as CancelledState
from prefect.states import Cancelling

from tasks.errors import Cancelled, Superseded
from tasks.orchestration.current_run import flow_run_id, flow_run_name
from tasks.orchestration.prefect_client import fail_fast_client

CHECK_INTERVAL_S = 5.0


def flow_run_is_final(flow_run: str) -> bool:
    """Whether a flow run has ended; one that this server does not know may be another server's, and alive."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run)).state
        except (ObjectNotFound, ValueError):
            return False
    return state is not None and state.is_final()


def cancel_flow_run(flow_run: str) -> bool:
    """Cancel a flow run that this one cannot wait for, and say whether it was.

    One of the same flow is waited for, and so is one that this server does not know: nobody can cancel it.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(UUID(flow_run))
        except (ObjectNotFound, ValueError):
            return False
        same = client.read_flow(found.flow_id).name == runtime.flow_run.flow_name
        if same or (found.state is not None and found.state.is_final()):
            return False
        get_run_logger().warning("cancelling flow run %s, which is in the way", found.name)
        at_work = found.state is not None and (found.state.is_running() or found.state.is_cancelling())
        end = Cancelling if at_work else CancelledState  # what no process works on, no worker cancels
        client.set_flow_run_state(found.id, end(message=f"{flow_run_name()} could not wait for it"), force=not at_work)
    return True


def flow_run_is_active(flow_run: str) -> bool:
    """Whether a flow run goes on: one that crashed does, because it is given back to a worker.

    One that is suspended does not. No answer is no reason to stop.
    """
    try:
        state = fail_fast_client().read_flow_run(UUID(flow_run)).state
    except Exception:  # noqa: BLE001 - whatever the client raises
        return True
    return state is None or state.is_crashed() or not (state.is_final() or state.is_paused())


def may_continue(parent: str | None = None) -> Callable[[], bool]:
    """Return what a loop asks before each piece of work, throttled: whether this process still has something to do.

    It raises Superseded, Cancelled or Pause as OwnershipGuard does, and is False once the flow run `parent`, of which
    this one does a share, no longer goes on.
    """
    guard = OwnershipGuard()

    def ask() -> bool:
        guard()
        guard.stop_if_suspended()
        return parent is None or flow_run_is_active(parent)

    return throttle(ask)


def throttle(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Return `ask` for a loop that turns quickly: its answer holds for `CHECK_INTERVAL_S` seconds."""
    answer, until = False, -1.0

    @functools.wraps(ask)
    def asked() -> bool:
        nonlocal answer, until
        if time.monotonic() >= until:
            answer = ask()
            until = time.monotonic() + CHECK_INTERVAL_S
        return answer

    return asked


class OwnershipGuard:
    """Called now and then, raises Superseded once another process has been given this flow run.

    That happens to a run whose heartbeats did not arrive, though its process lives: the machine slept, or the server
    was away. The run was then marked Crashed and retried, and two would train on one GPU. The same goes for a run that
    was cancelled when no worker was there to end its process.
    """

    def __init__(self) -> None:
        self._flow_run, self._attempt = UUID(flow_run_id()), runtime.flow_run.run_count

    def __call__(self) -> None:
        """Ask the server; no answer is no reason to stop."""
        found = self._ask()
        state = found.state if found else None
        if found is None or state is None:
            return
        if state.is_scheduled() or state.is_pending() or found.run_count > self._attempt:
            raise Superseded(f"flow run {self._flow_run} was given to another process, this one ends")
        if state.is_cancelled():
            raise Cancelled(f"flow run {self._flow_run} is Cancelled, this process ends")

    def stop_if_suspended(self, *_: object) -> None:
        """Leave the run where somebody suspended it: called when what was done is kept."""
        found = self._ask()
        if found and found.state and found.state.is_paused():
            raise Pause(state=found.state)

    def _ask(self) -> FlowRun | None:
        try:
            return fail_fast_client().read_flow_run(self._flow_run)
        except Exception:  # noqa: BLE001 - whatever the client raises, the training is worth more
            return None

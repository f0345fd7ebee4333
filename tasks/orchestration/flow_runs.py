"""Flow runs by their id: whether one has ended, how to cancel it, and whose this one is."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, Pause, TerminationSignal

from tasks.errors import Cancelled, Superseded
from tasks.orchestration import deployed_flows
from tasks.orchestration.current_run import flow_run_id, flow_run_name
from tasks.orchestration.prefect_client import fail_fast_client, patient_client, read_flow_run

CHECK_INTERVAL_S = 5.0
CERTAIN_S = (
    60.0  # a silent run is given away 75 s after its last heartbeat at the earliest (deployments/automations.yaml)
)


def flow_run_is_final(flow_run: str) -> bool:
    """Return whether a flow run has ended; an unknown one may belong to another server, and be alive.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    run = _find(flow_run)
    return run is not None and run.state is not None and run.state.is_final()


def cancel_flow_run(flow_run: str) -> bool:
    """Cancel a flow run that is in the way; returns whether it was cancelled.

    A run of the same flow is not, nor one that this server does not know.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    run = _find(flow_run)
    if run is None or (run.state is not None and run.state.is_final()):
        return False
    with patient_client() as client:
        if client.read_flow(run.flow_id).name == runtime.flow_run.flow_name:
            return False
    get_run_logger().warning("cancelling flow run %s, which is in the way", run.name)
    deployed_flows.cancel(run.id, f"{flow_run_name()} could not wait for it")
    return True


def flow_run_is_active(flow_run: str) -> bool:
    """Return whether a flow run goes on: a crashed one does, since a worker retries it; a suspended one does not.

    True as well if the server does not answer.
    """
    run = read_flow_run(UUID(flow_run))
    state = run.state if run else None
    return state is None or state.is_crashed() or not (state.is_final() or state.is_paused())


def may_continue(parent: str | None = None) -> Callable[[], bool]:
    """Return a throttled check for a loop: whether this process still has work to do.

    The check raises Superseded, Cancelled or Pause as OwnershipGuard does. It is False once flow run `parent`, of which
    this one does a share, no longer goes on.
    """
    guard = OwnershipGuard()

    def check() -> bool:
        guard()
        guard.stop_if_suspended()
        return parent is None or flow_run_is_active(parent)

    return throttle(check)


@contextlib.contextmanager
def call_when_cancelled(action: Callable[[], None]) -> Iterator[None]:
    """Call `action`, which must not raise, if this flow run is cancelled within the block.

    A worker that stops ends its processes as a cancellation does: `action` is then not called.
    """  # noqa: DOC501 - what is raised passes through
    try:
        yield
    except Cancelled:
        action()
        raise
    except TerminationSignal:
        run = read_flow_run(UUID(flow_run_id()))
        if run and run.state and (run.state.is_cancelling() or run.state.is_cancelled()):
            action()
        raise


def throttle(check: Callable[[], bool]) -> Callable[[], bool]:
    """Return `check` for a fast loop: its result holds for `CHECK_INTERVAL_S` seconds."""
    result = False
    until = -1.0

    @functools.wraps(check)
    def throttled() -> bool:
        nonlocal result, until
        if time.monotonic() >= until:
            result = check()
            until = time.monotonic() + CHECK_INTERVAL_S
        return result

    return throttled


class OwnershipGuard:
    """Checks that the flow run still belongs to this process.

    A run whose heartbeats did not arrive, because the machine slept or nothing came through to the server, is marked
    Crashed and retried, and two processes would train on one GPU. No worker ends the process of a run cancelled
    meanwhile.
    """

    def __init__(self) -> None:
        self._flow_run = UUID(flow_run_id())
        self._attempt = runtime.flow_run.run_count
        self._answered = time.monotonic()

    def __call__(self) -> None:
        """Ask the server; without an answer the run goes on.

        Raises:
            Superseded: Another process has the run.
            Cancelled: The run was cancelled.
        """
        with contextlib.suppress(Exception):
            self._ask()

    def is_certain(self) -> bool:
        """Return whether no other process can have the run yet: the server has answered a moment ago."""
        return time.monotonic() - self._answered < CERTAIN_S

    def require(self) -> None:
        """Ask until the server answers, for what two processes must not do.

        The run could not end without the server either, and what it has done so far is kept.

        Raises:
            Superseded: Another process has the run.
            Cancelled: The run was cancelled.
        """
        told = False
        while True:
            try:
                return self._ask()
            except Exception as error:  # noqa: BLE001 - whatever the client raises
                if not told:
                    get_run_logger().warning("this run may be another's by now, so it waits for an answer: %r", error)
                told = True
            time.sleep(CHECK_INTERVAL_S)

    def _ask(self) -> None:
        run = None
        with contextlib.suppress(ObjectNotFound):  # somebody has deleted it, and nobody else can have it
            run = fail_fast_client().read_flow_run(self._flow_run)
        self._answered = time.monotonic()
        if run is None or run.state is None:
            return
        if run.state.is_scheduled() or run.state.is_pending() or run.run_count > self._attempt:
            raise Superseded(f"flow run {self._flow_run} was given to another process, this one ends")
        if run.state.is_cancelled():
            raise Cancelled(f"flow run {self._flow_run} is Cancelled, this process ends")

    def stop_if_suspended(self, *_: object) -> None:
        """Check at a point where all work is saved.

        Raises:
            Pause: Somebody suspended the run.
        """
        run = read_flow_run(self._flow_run)
        if run and run.state and run.state.is_paused():
            raise Pause(state=run.state)


def _find(flow_run: str) -> FlowRun | None:
    """A flow run; None for an id that is none of this server's."""
    try:
        return deployed_flows.find(UUID(flow_run))
    except ValueError:
        return None

"""Runs of the same deployment that share the work of one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import Cancelled

DEPLOYMENT = "run-inference/gpu"  # of a run that was started without one


@contextmanager
def start_helper_runs(
    parameters: Sequence[Mapping[str, Any]], invite: Callable[[str, int], None]
) -> Iterator[list[UUID]]:
    """Start a run for each of these parameters, which takes part until the block is left; gives their ids.

    `invite` is told the id of each and its number from 1, so that no other run can pass for one of them.

    A run that is tried again has the helpers of its earlier attempts, and new ones for those that have ended. One that
    has not begun when the block is done is cancelled: what it was to do is done. Raises PrefectException where the
    deployment does not exist.
    """
    helpers = [_helper(number, each, invite) for number, each in enumerate(parameters, 1)]
    yield helpers
    for helper in helpers:  # not after an error: who comes then sees by himself whether there is something to do
        _cancel_where_it_waits(helper)


def _helper(number: int, parameters: Mapping[str, Any], invite: Callable[[str, int], None]) -> UUID:
    for attempt in range(1, (runtime.flow_run.run_count or 1) + 1):
        started = _started(number, attempt, parameters)
        # One that crashed is given back to a worker, as this one was.
        if started.state is None or not started.state.is_final() or started.state.is_crashed():
            break
    invite(str(started.id), number)
    get_run_logger().info("flow run %s takes share %d", started.id, number)
    return started.id


def _started(number: int, attempt: int, parameters: Mapping[str, Any]) -> FlowRun:
    """The helper of that attempt, started unless it was before."""
    started = run_deployment(
        UUID(runtime.deployment.id) if runtime.deployment.id else DEPLOYMENT,
        parameters=dict(parameters),
        flow_run_name=f"{runtime.flow_run.name}, share {number}",
        timeout=0,
        idempotency_key=f"{runtime.flow_run.id}-share-{number}-{attempt}",
    )
    return cast("FlowRun", started)


def _cancel_where_it_waits(helper: UUID) -> None:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(helper).state
            if state is not None and (state.is_scheduled() or state.is_pending()):
                client.set_flow_run_state(helper, Cancelled(message="Everything is done."), force=True)
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises: it finds nothing left to do, and ends
        get_run_logger().warning("flow run %s could not be cancelled: %s", helper, error)

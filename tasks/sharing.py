"""Runs of the same deployment that share the work of one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectException
from prefect.states import Cancelled

DEPLOYMENT = "run-inference/gpu"  # of a run that was started without one


@contextmanager
def helped_by(parameters: Sequence[Mapping[str, Any]]) -> Iterator[list[UUID]]:
    """Start a run for each of these parameters, which takes part until the block is left; gives their ids.

    A run that is tried again has the helpers of its first attempt. One that has not begun when the block is left is
    cancelled: what it was to do is done. Raises PrefectException where the deployment does not exist.
    """
    helpers = [_started(number, each) for number, each in enumerate(parameters, 1)]
    try:
        yield helpers
    finally:
        for helper in helpers:
            _cancel_where_it_waits(helper)


def _started(number: int, parameters: Mapping[str, Any]) -> UUID:
    run = runtime.flow_run.id
    started = run_deployment(
        UUID(runtime.deployment.id) if runtime.deployment.id else DEPLOYMENT,
        parameters=dict(parameters),
        flow_run_name=f"{runtime.flow_run.name}, share {number}",
        timeout=0,
        idempotency_key=f"{run}-share-{number}",
    )
    get_run_logger().info("flow run %s takes share %d", started.id, number)  # type: ignore[union-attr]
    return started.id  # type: ignore[union-attr]


def _cancel_where_it_waits(helper: UUID) -> None:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(helper).state
            if state is not None and (state.is_scheduled() or state.is_pending()):
                client.set_flow_run_state(helper, Cancelled(message="Everything is done."), force=True)
    except PrefectException as error:  # it finds nothing left to do, and ends
        get_run_logger().warning("flow run %s could not be cancelled: %s", helper, error)

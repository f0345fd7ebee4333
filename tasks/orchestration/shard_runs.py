"""Runs of the same deployment that each do a share of this run's work."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import Cancelled

from tasks.orchestration.child_runs import SHARES, child_tag
from tasks.orchestration.flow_runs import throttle
from tasks.orchestration.prefect_client import read_flow_run
from tasks.orchestration.starters import starter_tags

DEPLOYMENT = "run-inference/gpu"  # of a run that was started without one


@contextmanager
def start_shard_runs(
    parameters: Sequence[Mapping[str, Any]], invite: Callable[[str, int], None]
) -> Iterator[list[Callable[[], bool]]]:
    """Start a run for each of these parameters; yields for each a check whether it is at work.

    `invite` gets the id of each and its number from 1, so that no other run can pass for one of them. A run that is
    tried again has the shard runs of its first attempt. One that has not begun at the end of the block is cancelled.
    """
    runs = []
    for number, each in enumerate(parameters, 1):
        started = _start(number, each)
        invite(str(started), number)
        get_run_logger().info("flow run %s does share %d", started, number)
        runs.append(started)
    yield [throttle(partial(_is_at_work, run)) for run in runs]
    for run in runs:  # not after an error: the next attempt needs them
        _cancel_unless_begun(run)


def _is_at_work(flow_run: UUID) -> bool:
    """Whether a worker has this run; yes if the server does not answer."""
    run = read_flow_run(flow_run)
    if run is None:
        return True
    return run.state is not None and (run.state.is_running() or run.state.is_pending() or run.state.is_cancelling())


def _start(number: int, parameters: Mapping[str, Any]) -> UUID:
    """Start the run of a share, unless an earlier attempt did; returns its id."""
    started = run_deployment(
        UUID(runtime.deployment.id) if runtime.deployment.id else DEPLOYMENT,
        parameters=dict(parameters),
        flow_run_name=f"{runtime.flow_run.name}, share {number}",
        timeout=0,
        tags=[child_tag(SHARES, runtime.flow_run.id), *starter_tags()],
        idempotency_key=f"{runtime.flow_run.id}-share-{number}",
    )
    return cast("FlowRun", started).id


def _cancel_unless_begun(flow_run: UUID) -> None:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
            if state is not None and (state.is_scheduled() or state.is_pending()):
                client.set_flow_run_state(flow_run, Cancelled(message="Everything is done."), force=True)
    except Exception as error:  # noqa: BLE001 - whatever the client raises: the run finds no work and ends
        get_run_logger().warning("flow run %s could not be cancelled: %s", flow_run, error)

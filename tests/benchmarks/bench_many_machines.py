"""How long one coordinator lets many machines wait: docs/scale.md's arithmetic, tried with simulated machines.

`python -m pytest -s tests/benchmarks/bench_many_machines.py`: it starts a stack of its own. A simulated machine is no
process: it sends what a worker and a training send, as often as they do, to the real server. The GPUs, the trainings
and the network between machines are what is not there.
"""

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import httpx
import numpy as np
import psutil
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import LogCreate
from prefect.states import Completed, Running

from infra.registration import POOL
from infra.stack_settings import StackSettings
from tasks.orchestration import events
from tests.benchmarks.bench_scale import LINES, heartbeat, scale
from tests.supervised import process_of

pytestmark = pytest.mark.timeout(3600)
WARM_UP_S = 20.0
MEASURED_S = 45.0
EPOCH_S = 60.0
WORKERS = (25, 50, 75)
GPUS = (125, 250, 500)
POLL = "poll"
LOOK = "look"


@dataclass(frozen=True)
class Habit:
    """What a machine sends, and each how many seconds."""

    name: str
    every_s: float
    send: Callable[[PrefectClient, int, UUID], Awaitable[object]]


async def _poll(client: PrefectClient, machine: int, run: UUID) -> None:  # noqa: ARG001
    await client.get_scheduled_flow_runs_for_work_pool(POOL, ["training"])


async def _beat(client: PrefectClient, machine: int, run: UUID) -> None:  # noqa: ARG001
    await client.send_worker_heartbeat(POOL, f"machine-{machine}", 30)


async def _beat_of_run(client: PrefectClient, machine: int, run: UUID) -> None:  # noqa: ARG001
    await asyncio.to_thread(events.post, [heartbeat(run)])


async def _look(client: PrefectClient, machine: int, run: UUID) -> None:  # noqa: ARG001
    await client.read_flow_run(run)


async def _log(client: PrefectClient, machine: int, run: UUID) -> None:  # noqa: ARG001
    line = LogCreate(name="prefect.flow_runs", level=20, message="x" * 80, timestamp=datetime.now(UTC))
    await client.create_logs([line.model_copy(update={"flow_run_id": run})] * LINES)


OF_A_WORKER = (Habit(POLL, 2, _poll), Habit("heartbeat", 30, _beat))
OF_A_RUN = (Habit("heartbeat of run", 30, _beat_of_run), Habit(LOOK, 10, _look), Habit("log", EPOCH_S, _log))


async def _keep(
    habit: Habit, client: PrefectClient, machine: int, run: UUID, took: dict[str, list[float]], over: asyncio.Event
) -> None:
    """Send it again and again, as a worker does: the next wait begins when the answer is there."""
    wait_s = random.uniform(0, habit.every_s)  # noqa: S311
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), wait_s)
        if over.is_set():
            return
        began = time.monotonic()
        await habit.send(client, machine, run)
        took[habit.name].append(time.monotonic() - began)
        wait_s = habit.every_s


async def simulate(machines: int, habits: tuple[Habit, ...], prefect: psutil.Process) -> dict[str, list[float]]:
    """Let as many machines work for a while, print how long they waited, and return the seconds by what they sent."""
    took: dict[str, list[float]] = defaultdict(list)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with get_client(httpx_settings={"limits": limits, "timeout": 120}) as client:
        runs = [(await client.create_flow_run(scale, state=Running())).id for _ in range(machines)]
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()
            for machine, run in enumerate(runs):
                for habit in habits:
                    group.create_task(_keep(habit, client, machine, run, took, over))
            await asyncio.sleep(WARM_UP_S)
            took.clear()
            before, began = sum(prefect.cpu_times()[:2]), time.monotonic()
            await asyncio.sleep(MEASURED_S)
            core = (sum(prefect.cpu_times()[:2]) - before) / (time.monotonic() - began)
            answered = sum(map(len, took.values()))
            over.set()
        for run in runs:  # or each would be told to be lost, which costs the server more than all that is measured
            await client.set_flow_run_state(run, Completed(), force=True)
    wanted = sum(machines * MEASURED_S / habit.every_s for habit in habits)
    for name, seconds in took.items():
        p50, p95 = np.percentile(seconds, [50, 95])
        print(f"{machines:>5} machines, {name:<17} p50 {1000 * p50:6.0f} ms  p95 {1000 * p95:6.0f} ms")
    print(f"{machines:>5} machines: {core:.2f} of a core of Prefect, {answered / wanted:.0%} of what they want to send")
    return took


@pytest.mark.parametrize("machines", WORKERS)
def test_workers_that_poll_each_two_seconds(stack: StackSettings, machines: int) -> None:
    """Each has a worker and a training."""
    assert asyncio.run(simulate(machines, OF_A_WORKER + OF_A_RUN, process_of(stack, "prefect")))[POLL]


@pytest.mark.parametrize("machines", GPUS)
def test_trainings_that_kubernetes_started(stack: StackSettings, machines: int) -> None:
    """Each GPU has a training, and one worker asks for all of them: its polls are left out."""
    assert asyncio.run(simulate(machines, OF_A_RUN, process_of(stack, "prefect")))[LOOK]

"""What many machines cost the one that coordinates them, in seconds of processor time of Prefect and PostgreSQL.

`python -m pytest -s tests/benchmarks/bench_scale.py`: it starts a stack of its own, and sends what workers and runs
send. Processor time is counted, so other programs on the machine hardly matter. docs/scale.md does the arithmetic.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.objects import State
from prefect.states import Completed, Pending, Running

from infra import patrol
from infra.registration import POOL
from infra.stack_settings import StackSettings
from tasks.orchestration import events
from tasks.orchestration.events import Resource
from tasks.orchestration.prefect_client import patient_client
from tests.benchmarks.results import Measure, record
from tests.supervised import process_of

pytestmark = pytest.mark.timeout(1800)
ACTIVE = 1000
SENT = 200
LINES = 20


class Meter:
    """Processor time of Prefect's server and of PostgreSQL."""

    def __init__(self, stack: StackSettings) -> None:
        self._services = {name: process_of(stack, name) for name in ("prefect", "postgres")}

    def _spent(self) -> dict[str, float]:
        spent = {}
        for name, process in self._services.items():
            family = [process, *process.children(recursive=True)]
            spent[name] = sum(sum(each.cpu_times()[:2]) for each in family)
        return spent

    def cost(self, what: str, work: Callable[[], object], count: int, idle_s: float = 0.0) -> None:
        """Record the milliseconds that one of `count` costs, without what an idle server needs."""
        resting, rested = self._spent(), time.monotonic()
        time.sleep(10)
        idle = {name: (self._spent()[name] - resting[name]) / (time.monotonic() - rested) for name in resting}
        before, began = self._spent(), time.monotonic()
        work()
        time.sleep(idle_s)  # in which the server deals with what it has accepted
        took = time.monotonic() - began
        spent = {name: self._spent()[name] - before[name] - idle[name] * took for name in before}
        each = {name: 1000 * max(seconds, 0) / count for name, seconds in spent.items()}
        print(f"Prefect {each['prefect']:.1f}, PostgreSQL {each['postgres']:.1f} ms, {took:.0f} s of wall for {count}")
        cost = max(sum(each.values()), 0.001)  # less than what an idle server's share is known to
        record(Measure(name=what, unit="ms of processor time", better="less", ours=[cost]))


def repeat(work: Callable[[], object], count: int) -> Callable[[], None]:
    def many() -> None:
        for _ in range(count):
            work()

    return many


def heartbeat(run: UUID) -> dict[str, object]:
    of_flow = Resource(id=f"prefect.flow.{run}", name="train-model").to_json("flow")
    return events.build("prefect.flow-run.heartbeat", Resource(id=f"prefect.flow-run.{run}", name="scale"), [of_flow])


@flow(name="scale")
def scale() -> None:
    """A flow that no automation looks after: its runs have no process."""


def test_what_many_machines_cost_the_coordinator(stack: StackSettings) -> None:
    meter, now = Meter(stack), datetime.now(UTC)
    with patient_client() as client:
        runs: list[UUID] = []

        def make(count: int) -> None:
            runs.extend(client.create_flow_run(scale, state=Pending()).id for _ in range(count))

        def set_all(state: State[object]) -> Callable[[], object]:
            return lambda: [client.set_flow_run_state(run, state) for run in runs]

        def log() -> None:
            line = LogCreate(name="prefect.flow_runs", level=20, message="x" * 80, timestamp=now)
            for run in runs:
                client.create_logs([line.model_copy(update={"flow_run_id": run})] * LINES)

        poll = repeat(lambda: client.get_scheduled_flow_runs_for_work_pool(POOL, ["training"]), SENT)
        meter.cost("poll of a worker", poll, SENT)
        beat = repeat(lambda: client.send_worker_heartbeat(POOL, "scale-0", 30), SENT)
        meter.cost("heartbeat of a worker", beat, SENT)
        meter.cost("a run is made", lambda: make(SENT), SENT)
        meter.cost("a run begins", set_all(Running()), SENT)
        meter.cost(f"{LINES} lines of log", log, SENT)
        meter.cost("a look whether a run goes on", repeat(lambda: client.read_flow_run(runs[0]), SENT), SENT)
        make(ACTIVE - SENT)
        set_all(Running())()
        meter.cost(f"a round of the patrol, {ACTIVE} active", patrol.announce_active_runs, 1, idle_s=20)
        meter.cost("a run ends", set_all(Completed()), ACTIVE)
        beats = repeat(lambda: events.post([heartbeat(each) for each in runs[:SENT]]), 5)
        meter.cost("heartbeat of a run", beats, 5 * SENT, idle_s=20)

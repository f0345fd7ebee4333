"""Several workers: one that is told to end hands over, and many runs are each done once."""

import signal
import time
from collections import Counter
from uuid import UUID

import boto3
import httpx
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType

from infra import demo_data
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tasks.orchestration.prefect_client import patient_client
from tests.chaos.steps import ENGINE, Workers, completed, log, processes, read, until
from tests.chaos.test_trainings import PLANS, carried_on_after, reached, start
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
HANDED_OVER_S = 30
AT_ONCE = 50
ENDED_S = 600  # each takes seconds of processor time to start
QUEUED = 500
SLOWER = 4  # times, at most
PAGES = 20  # asked for; the quickest counts, as other work may slow any of them


@pytest.fixture(scope="module", autouse=True)
def archives(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("archives")
    for plan in (*PLANS, SMALL):
        boto3.client("s3").upload_file(str(demo_data.write_archive(plan, folder)), "datasets", plan.name)


SMALL = ArchivePlan(name="many.zip", classes=("circle",), train=4, val=2, seed=3)


def test_a_worker_that_is_told_to_end_hands_its_training_over(workers: Workers) -> None:
    first = workers.start(queues=["training"])
    run = start("drained")
    until(lambda: reached(run, 2), "epoch 2")
    first.send_signal(signal.SIGTERM)
    began = time.monotonic()
    second = workers.start(queues=["training"])
    until(lambda: is_given_back(run), "it waits for a worker, or has one")
    handed_over = time.monotonic() - began
    first.wait(timeout=1)
    until(lambda: read(run).run_count == 2, "the second worker is at it")
    print(f"handed over after {handed_over:.0f} s, carried on after {time.monotonic() - began:.0f} s")
    assert handed_over < HANDED_OVER_S, log(run)
    until(lambda: completed(run), "completed")
    assert carried_on_after(run)[0] >= 2
    assert second.is_running()


def is_given_back(run: UUID) -> bool:
    found = read(run)
    return found.run_count == 2 or (found.state is not None and found.state.is_scheduled())


def test_a_run_that_ends_in_time_is_not_interrupted(workers: Workers) -> None:
    worker = workers.start("--drain", "60", queues=["interactive"])
    run = deployed_flows.start("validate-dataset", {"archive": SMALL.name})
    until(lambda: bool(processes(run, ENGINE)), "it has begun")
    worker.send_signal(signal.SIGTERM)
    later = deployed_flows.start("validate-dataset", {"archive": SMALL.name})
    worker.wait(timeout=90)
    assert read(run).run_count == 1
    assert completed(run)
    state = read(later).state
    assert state is not None
    assert state.is_scheduled()  # nobody has taken it
    workers.start(queues=["interactive"])
    until(lambda: completed(later), "the next worker has done it")


def test_fifty_runs_at_once_on_two_workers_are_each_done_once(workers: Workers) -> None:
    for _ in range(2):
        workers.start(queues=["interactive"], limit=4)
    began = time.monotonic()
    runs = [deployed_flows.start("validate-dataset", {"archive": SMALL.name}) for _ in range(AT_ONCE)]
    eventually(lambda: all(run.state and run.state.is_final() for run in every(runs)), "all have ended", ENDED_S, 1)
    took = time.monotonic() - began
    ended = every(runs)
    print(f"{AT_ONCE} runs on 2 workers of 4 in {took:.0f} s")
    assert Counter(run.state_type for run in ended) == {StateType.COMPLETED: AT_ONCE}
    assert {run.run_count for run in ended} == {1}


def every(runs: list[UUID]) -> list[FlowRun]:
    with patient_client() as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=runs)), limit=200)


@pytest.mark.usefixtures("workers")
def test_the_pages_stay_quick_while_five_hundred_runs_wait(stack: StackSettings) -> None:
    def page() -> str:
        address = f"http://127.0.0.1:{stack.live_port}/runs/newest"  # what /runs asks for, and again every few seconds
        answer = httpx.get(address, auth=("studio", stack.secrets["front_page"]), timeout=30)
        return answer.raise_for_status().text

    def page_s() -> float:
        took = []
        for _ in range(PAGES):
            began = time.monotonic()
            page()
            took.append(time.monotonic() - began)
        return min(took)

    before = page_s()
    runs = [deployed_flows.start("validate-dataset", {"archive": SMALL.name}) for _ in range(QUEUED)]
    after = page_s()
    shown = page()
    assert any(str(run) in shown for run in runs)
    with patient_client() as client:
        for run in runs:
            client.delete_flow_run(run)
    print(f"page of runs: {before * 1000:.0f} ms, with {QUEUED} runs waiting {after * 1000:.0f} ms")
    assert after < SLOWER * before

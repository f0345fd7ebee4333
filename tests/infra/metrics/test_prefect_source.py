"""Runs of Prefect as metrics: what ends is counted once, and what waits is told by queue."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed, Pending, Running, Scheduled

from infra.metrics.activity import Activity
from infra.metrics.prefect_source import PrefectSource
from tests.prefect_runs import make_run

TRAIN = "train-model"


class Read:
    """The metrics of a source, by name and labels."""

    def __init__(self, *flows: str) -> None:
        self._source = PrefectSource(flows, ["checks"], Activity())
        self()

    def __call__(self) -> None:
        """Read them anew."""
        samples = [sample for metric in self._source.read() for sample in metric.samples]
        self._values = {(each.name, *sorted(each.labels.values())): each.value for each in samples}

    def __getitem__(self, key: tuple[str, ...]) -> float:
        return self._values[f"studio_{key[0]}", *sorted(key[1:])]


@pytest.fixture
def start(client: SyncPrefectClient, deployment: UUID) -> Callable[..., UUID]:
    """Makes a run of a deployment that no worker looks at, and has it go through states."""
    return partial(make_run, client, deployment)


def test_a_run_that_ends_is_counted_once_by_flow_and_state(start: Callable[..., UUID], flow: str) -> None:
    read = Read(flow)
    assert read["flow_runs_ended_total", flow, "failed"] == 0, "from the beginning, so that the first is an increase"
    start(Pending(), Running(), Failed(message="x"))
    start(Pending(), Running(), Completed(name="Nothing new"))
    start(Cancelled())
    for _ in range(2):
        read()
        ended = {state: read["flow_runs_ended_total", flow, state] for state in ("failed", "completed", "cancelled")}
        assert ended == {"failed": 1, "completed": 1, "cancelled": 1}
        assert read["flow_run_failures_total", flow, "Failed"] == 1
        assert read["flow_run_duration_seconds_count", flow] == 2, "one of them never began"


def test_a_run_that_is_tried_again_ends_again(start: Callable[..., UUID], flow: str, client: SyncPrefectClient) -> None:
    read = Read(flow)
    run = start(Pending(), Running(), Failed())
    read()
    again: list[State[None]] = [Scheduled(), Pending(), Running(), Completed()]
    for state in again:
        client.set_flow_run_state(run, state, force=True)
    read()
    assert (read["flow_runs_ended_total", flow, "failed"], read["flow_runs_ended_total", flow, "completed"]) == (1, 1)
    assert read["flow_run_retries_total", flow] == 1


def test_failures_of_states_that_nobody_knows_are_one_kind(start: Callable[..., UUID], flow: str) -> None:
    read = Read(flow)
    for number in range(3):
        start(Pending(), Running(), Failed(name=f"Made up {number}"))
    read()
    assert read["flow_run_failures_total", flow, "other"] == 3


def test_what_waits_and_what_goes_on_is_told(start: Callable[..., UUID], flow: str, client: SyncPrefectClient) -> None:
    read = Read(flow)
    waiting, running = start(), start(Pending(), Running())
    read()
    assert (read["flow_runs", flow, "waiting"], read["flow_runs", flow, "running"]) == (1, 1)
    assert read["queue_backlog", "other"] >= 1, "it has no queue of ours"
    assert read["queue_oldest_wait_seconds", "other"] > 0
    assert read["queue_backlog", "checks"] == 0
    for run in (waiting, running):
        client.delete_flow_run(run)


def test_a_flow_that_is_not_ours_is_other(start: Callable[..., UUID]) -> None:
    read = Read(TRAIN)
    before = read["flow_runs_ended_total", "other", "failed"]
    start(Pending(), Running(), Failed())
    read()
    assert read["flow_runs_ended_total", "other", "failed"] >= before + 1
    assert read["flow_runs_ended_total", TRAIN, "failed"] == 0


@pytest.mark.usefixtures("stack")
def test_a_worker_that_is_there_is_counted() -> None:
    read = Read(TRAIN)
    assert read["workers_online",] >= 1

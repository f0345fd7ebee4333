"""Runs that a schedule has missed are skipped, and those of people are not; when a run was begun."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from tasks.orchestration import prefect_client, run_history
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.orchestration.retries import RetryPolicy
from tests.waiting import eventually

DUE = 3
ATTEMPTS: dict[str, tuple[list[StateType], int]] = {
    "first": ([StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING], 2),
    "crashed": ([StateType.RUNNING, StateType.CRASHED, StateType.SCHEDULED, StateType.RUNNING], 0),
    "suspended": ([StateType.RUNNING, StateType.PAUSED, StateType.SCHEDULED, StateType.RUNNING], 0),
    "failed": ([StateType.RUNNING, StateType.FAILED, StateType.SCHEDULED, StateType.RUNNING], 3),
    "cancelled": ([StateType.RUNNING, StateType.CANCELLED, StateType.SCHEDULED, StateType.RUNNING], 3),
}


@pytest.mark.parametrize(("types", "begun"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_a_run_is_begun_again_only_after_it_had_ended_for_good(types: list[StateType], begun: int) -> None:
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, len(types) + 1)]
    states: list[State] = [State(type=kind, timestamp=at) for kind, at in zip(types, moments, strict=True)]
    assert run_history.last_beginning(states) == moments[begun]


@pytest.fixture
def scheduled(client: SyncPrefectClient) -> Iterator[tuple[str, UUID]]:
    """A flow that runs every second, and its deployment, for which there is no worker."""
    name = f"flow-{uuid4().hex[:8]}"
    often = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(seconds=1)), active=True)
    made = client.create_deployment(client.create_flow_from_name(name), "often", schedules=[often])
    yield name, made
    client.delete_deployment(made)


def test_of_a_schedule_the_runs_that_are_due_are_skipped(
    client: SyncPrefectClient, scheduled: tuple[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, deployment = scheduled
    asked_for = client.create_flow_run_from_deployment(deployment, state=Scheduled())
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(deployment))

    def due(before: datetime) -> list[FlowRun]:
        runs = run_history.list_runs(name)
        return [
            run for run in runs if run.auto_scheduled and run.expected_start_time and run.expected_start_time < before
        ]

    eventually(lambda: len(due(datetime.now(UTC))) >= DUE, "the server to schedule runs", 60)
    now = datetime.now(UTC)
    assert run_history.skip_missed_runs() >= DUE
    after = datetime.now(UTC)
    assert {run.state and run.state.name for run in due(now)} == {run_history.SKIPPED}
    skipped = {run.id for run in due(after)}
    others = [run for run in run_history.list_runs(name) if run.id not in skipped]
    assert asked_for.id in {run.id for run in others}
    assert all(run.state and run.state.is_scheduled() for run in others)


def test_a_run_without_a_deployment_skips_none(stack: object) -> None:  # noqa: ARG001
    assert run_history.skip_missed_runs() == 0


def test_all_runs_are_listed_in_order(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"flow-{uuid4().hex[:8]}"
    deployment = client.create_deployment(client.create_flow_from_name(name), "never")
    monkeypatch.setattr(prefect_client, "RUNS_PER_REQUEST", 2)
    times = [datetime.now(UTC) + timedelta(days=day) for day in (-2, 3, -1, 2, 1)]
    runs = {
        time: client.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=time)).id
        for time in times
    }
    assert [run.id for run in run_history.list_runs(name)] == [runs[time] for time in sorted(times)]
    client.delete_deployment(deployment)


def test_a_server_that_stays_away_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_history, "SERVICE_RESTART", RetryPolicy(attempts=2))
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(PrefectUnavailableError),
    ):
        list(run_history.list_runs("any"))

"""When a run that another has started is over, and how long it took; on the server: given back, cancelled."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelling, Completed, Crashed, Failed, Pending, Running, Suspended

from tasks.errors import REFUSED
from tasks.orchestration.child_runs import (
    CRASH_GRACE_S,
    PIPELINE,
    RunState,
    cancel_children,
    child_tag,
    last_restart,
    read_runs,
)
from tests.prefect_runs import make_run

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run_state(kind: StateType, since_s: float = 0, began_s: float | None = None) -> RunState:
    return RunState(
        id=uuid4(),
        name="x",
        type=kind,
        state=kind.title(),
        message="",
        since=NOW - timedelta(seconds=since_s),
        began=None if began_s is None else NOW - timedelta(seconds=began_s),
    )


@pytest.mark.parametrize("kind", StateType)
def test_a_run_is_over_when_nobody_tries_it_again(kind: StateType) -> None:
    """A crashed one is given back to a worker by an automation, unless that has not happened for long."""
    over = {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED}
    assert run_state(kind).is_over(NOW) == (kind in over)
    assert run_state(kind, CRASH_GRACE_S + 1).is_over(NOW) == (kind in over | {StateType.CRASHED})
    assert run_state(kind).completed == (kind is StateType.COMPLETED)


def test_the_answer_of_a_person_is_final() -> None:
    failed = {StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
    assert {kind for kind in StateType if run_state(kind).can_be_retried} == failed
    assert not replace(run_state(StateType.CANCELLED), state=REFUSED).can_be_retried


@pytest.mark.parametrize(
    ("kind", "began_s", "expected"),
    [
        (StateType.SCHEDULED, None, None),
        (StateType.RUNNING, 90, 90),
        (StateType.COMPLETED, 90, 60),
        (StateType.COMPLETED, 20, 0),  # by a clock that goes wrong
    ],
)
def test_a_run_has_gone_on_until_it_stopped(kind: StateType, began_s: float | None, expected: float | None) -> None:
    assert run_state(kind, 30, began_s).seconds(NOW) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), None),
        ((StateType.SCHEDULED, StateType.RUNNING), None),
        ((StateType.RUNNING, StateType.CRASHED, StateType.SCHEDULED), None),
        ((StateType.RUNNING, StateType.FAILED), None),
        ((StateType.FAILED, StateType.SCHEDULED, StateType.RUNNING), 1),
        ((StateType.FAILED, StateType.SCHEDULED, StateType.CANCELLED, StateType.SCHEDULED), 3),
    ],
)
def test_a_run_is_started_again_after_it_had_ended_for_good(kinds: tuple[StateType, ...], expected: int | None) -> None:
    states: list[State] = [State(type=kind, timestamp=NOW + timedelta(days=day)) for day, kind in enumerate(kinds)]
    assert last_restart(states) == (None if expected is None else NOW + timedelta(days=expected))


# ---- on the server ---------------------------------------------------------------------------------------------------


def made(client: SyncPrefectClient, deployment: UUID, *states: State, tag: str = "") -> UUID:
    """A run that has gone through these states; later, so that it is not called late."""
    return make_run(client, deployment, *states, tag=tag, due=datetime.now(UTC) + timedelta(hours=1))


def test_runs_are_read_as_they_are_and_one_that_is_gone_is_missing(client: SyncPrefectClient, deployment: UUID) -> None:
    failed, gone = made(client, deployment, Running(), Failed(message="why")), uuid4()
    found = read_runs([failed, gone])
    assert set(found) == {failed}
    assert (found[failed].state, found[failed].message) == ("Failed", "why")
    assert found[failed].began is not None
    assert read_runs([]) == {}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), "Cancelled"),
        ((Pending(),), "Cancelled"),
        ((Running(),), "Cancelling"),
        ((Running(), Suspended(timeout_seconds=3600)), "Cancelled"),
        ((Running(), Crashed()), "Cancelled"),
        ((Running(), Cancelling()), "Cancelling"),
        ((Running(), Completed()), "Completed"),
        ((Running(), Failed()), "Failed"),
    ],
    ids=lambda value: "-".join(state.name for state in value) if isinstance(value, tuple) else value,
)
def test_only_what_has_not_ended_is_cancelled(
    client: SyncPrefectClient, deployment: UUID, states: tuple[State, ...], expected: str
) -> None:
    """A worker ends the process of one that runs; a crashed one would else be tried again."""
    pipeline = uuid4()
    run = made(client, deployment, *states, tag=child_tag(PIPELINE, pipeline))
    other = made(client, deployment, *states)
    before = client.read_flow_run(other).state_name
    cancel_children({pipeline: datetime.now(UTC)})
    assert client.read_flow_run(run).state_name == expected
    assert client.read_flow_run(other).state_name == before

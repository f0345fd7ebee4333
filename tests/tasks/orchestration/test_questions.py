"""A flow run that asks a person, with the real server; on a worker: tests/flows/test_approval.py."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Cancelled as CancelledState
from prefect.states import Pending, Running, Suspended

from infra import patrol
from tasks.deployment.approval_form import ApprovalForm
from tasks.errors import Cancelled, StudioError
from tasks.orchestration import questions
from tasks.orchestration.suspension import can_be_suspended

FILLED = {"decision": "approve", "name": "Ann", "comment": "<b>\n"}
DEADLINE = datetime.now(UTC) + timedelta(hours=1)


def asking(state: State) -> State:
    """The same state of a run that asks."""
    state.state_details.run_input_keyset = questions.KEYSET
    return state


@flow
def ask() -> str:
    """Ask once about a number that each attempt chooses anew, and say what came back."""
    if given := questions.find_answer():
        subject = questions.find_subject() or {}
        return f"{given.fields['name']} about {subject['number']}"
    assert can_be_suspended()
    questions.keep_subject({"number": next(NUMBERS)})
    return questions.ask(ApprovalForm.model_json_schema(), "**Sure?**", DEADLINE)


NUMBERS = iter(range(1, 100))


@pytest.fixture
def run(client: SyncPrefectClient) -> Iterator[UUID]:
    """A run of a deployment without a worker: the tests are its processes."""
    deployment = client.create_deployment(client.create_flow(ask), str(uuid4()))
    yield client.create_flow_run_from_deployment(deployment).id
    client.delete_deployment(deployment)


def attempt(client: SyncPrefectClient, run: UUID) -> Any:
    """What a worker does with a run that is scheduled."""
    client.set_flow_run_state(run, Pending(), force=True)
    story: Any = ask
    state: Any = run_flow(story, flow_run=client.read_flow_run(run), return_type="state")
    return state


def asked(client: SyncPrefectClient, run: UUID) -> None:
    with pytest.raises(Pause):
        attempt(client, run)
    state = client.read_flow_run(run).state
    assert state is not None
    assert (state.name, state.state_details.run_input_keyset) == ("Suspended", questions.KEYSET)


def test_a_run_waits_and_goes_on_with_the_answer(client: SyncPrefectClient, run: UUID) -> None:
    asked(client, run)
    assert client.read_flow_run_input(run, questions.KEYSET["description"]) == '"**Sure?**"'
    assert [each.description for each in questions.list_open_questions() if each.run == run] == ["**Sure?**"]
    questions.answer(run, FILLED)
    assert run not in {each.run for each in questions.list_open_questions()}
    with pytest.raises(StudioError, match=r"already answered by 'Ann' at 20.* nothing has changed"):
        questions.answer(run, FILLED | {"name": "Bob"})
    state = attempt(client, run)
    assert str(state.result()).startswith("Ann about ")


def test_of_several_answers_at_once_one_counts(client: SyncPrefectClient, run: UUID) -> None:
    """The others are told whose it is, in our words: two may reach the server before either is kept."""
    asked(client, run)
    with ThreadPoolExecutor(6) as pool:
        names = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn"]
        given = [pool.submit(questions.answer, run, FILLED | {"name": name}) for name in names]
    failures = [each.exception() for each in given]
    winner = names[failures.index(None)]
    others = [str(failure) for failure in failures if failure]
    assert len(others) == len(names) - 1
    assert all(f"already answered by '{winner}' at 20" in message for message in others)


def test_a_run_that_is_killed_before_it_is_suspended_asks_the_same(client: SyncPrefectClient, run: UUID) -> None:
    asked(client, run)
    first = client.read_flow_run_input(run, questions.SUBJECT)
    client.set_flow_run_state(run, Running(), force=True)
    asked(client, run)  # with another number, and what was kept stays
    assert client.read_flow_run_input(run, questions.SUBJECT) == first
    questions.answer(run, FILLED)
    assert attempt(client, run).is_completed()


def test_a_run_that_was_cancelled_meanwhile_is_not_suspended(client: SyncPrefectClient, run: UUID) -> None:
    @flow
    def too_late() -> None:
        client.set_flow_run_state(run, CancelledState(), force=True)
        with pytest.raises(Cancelled):
            questions.ask({}, "", DEADLINE)
        assert client.read_flow_run(run).state_name == "Cancelled"

    client.set_flow_run_state(run, Pending(), force=True)
    story: Any = too_late
    run_flow(story, flow_run=client.read_flow_run(run))


@pytest.mark.parametrize(
    ("fields", "named"),
    [({}, "required"), (FILLED | {"comment": "x" * 100_000}, "too long"), (FILLED | {"more": 1}, "Additional")],
    ids=["empty", "too long", "other fields"],
)
def test_what_does_not_fit_the_form_leaves_the_run_waiting(
    client: SyncPrefectClient, run: UUID, fields: dict[str, Any], named: str
) -> None:
    asked(client, run)
    with pytest.raises(StudioError, match=f"did not take the answer to .*{named}"):
        questions.answer(run, fields)
    assert client.read_flow_run(run).state_name == "Suspended"


def test_a_run_that_asks_nothing_cannot_be_answered(client: SyncPrefectClient, run: UUID) -> None:
    with pytest.raises(StudioError, match="found it Scheduled"):
        questions.answer(run, FILLED)
    with pytest.raises(StudioError, match="Expected a flow run"):
        questions.answer(uuid4(), FILLED)
    assert client.read_flow_run(run).state_name == "Scheduled"


def test_nobody_answers_when_the_time_is_over(client: SyncPrefectClient, run: UUID) -> None:
    asked(client, run)
    patrol.answer_unanswered(DEADLINE - timedelta(seconds=1))
    assert client.read_flow_run(run).state_name == "Suspended"
    patrol.answer_unanswered(DEADLINE)
    assert client.read_flow_run(run).state_name == "Resuming"
    assert str(attempt(client, run).result()).startswith("nobody about ")


@pytest.mark.parametrize(
    ("state", "deadline"),
    [
        (Suspended(pause_expiration_time=DEADLINE + questions.GRACE), None),
        (asking(Suspended(pause_expiration_time=DEADLINE + questions.GRACE)), DEADLINE),
        (asking(Suspended()), None),
        (Running(), None),
    ],
)
def test_only_our_questions_have_a_deadline(state: State, deadline: datetime | None) -> None:
    assert questions.deadline_of(state) == deadline


def test_a_run_without_a_deployment_is_not_suspended(stack: object) -> None:  # noqa: ARG001
    @flow
    def alone() -> None:
        assert not can_be_suspended()
        questions.ask({}, "", DEADLINE)

    with pytest.raises(StudioError, match="Cannot suspend flows without a deployment"):
        alone()

"""What people are told who open a round, by what became of its run; with a browser: tests/infra/front_page."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from tasks.orchestration.child_runs import RunState
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.review import standings
from tasks.review.standings import AnswerError, Standing, require_open, standing_of

RUN = uuid4()
RETRY = f"`studio retry {RUN}` has the run go on."


def stand(
    monkeypatch: pytest.MonkeyPatch, kind: StateType | None, name: str = "", *, is_over: bool = False
) -> Standing:
    run = RunState(
        id=RUN, name="gray-emu", type=kind or StateType.RUNNING, state=name, message="The reason.",
        since=datetime.now(UTC), began=None,
    )  # fmt: skip
    monkeypatch.setattr(standings, "read_runs", lambda _: {RUN: run} if kind else {})
    monkeypatch.setattr(standings, "is_over", lambda _: is_over)
    return standing_of(str(RUN))


@pytest.mark.parametrize("kind", [StateType.PAUSED, StateType.RUNNING, StateType.SCHEDULED])
def test_a_round_whose_run_goes_on_takes_answers_until_its_archive_is_made(
    monkeypatch: pytest.MonkeyPatch, kind: StateType
) -> None:
    assert stand(monkeypatch, kind) == Standing(takes_answers=True)
    closed = stand(monkeypatch, kind, is_over=True)
    assert (closed.takes_answers, "is being made" in closed.words) == (False, True)


@pytest.mark.parametrize("is_over", [False, True])
def test_nobody_would_read_what_is_answered_to_a_run_that_was_cancelled(
    monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    standing = stand(monkeypatch, StateType.CANCELLED, "Cancelled", is_over=is_over)
    assert (standing.takes_answers, standing.can_be_retried) == (False, True)
    assert standing.words.endswith(f"What was answered stays: {RETRY}")
    told = "found one whose run was cancelled. The run of this round was cancelled, and nobody would read an answer"
    with pytest.raises(AnswerError, match=told):
        require_open(str(RUN))


@pytest.mark.parametrize("kind", [StateType.FAILED, StateType.CRASHED])
def test_answers_to_a_run_that_has_failed_are_corrected_before_it_is_retried(
    monkeypatch: pytest.MonkeyPatch, kind: StateType
) -> None:
    """Such as after a failed check: a retry reads them at once."""
    standing = stand(monkeypatch, kind)
    assert (standing.takes_answers, standing.can_be_retried) == (True, True)
    assert f"The reason. What was answered stays: {RETRY} Correct what is wrong" in standing.words
    closed = stand(monkeypatch, kind, is_over=True)  # by a process that was killed
    assert (closed.takes_answers, closed.words.endswith(RETRY)) == (False, True)


@pytest.mark.parametrize(("name", "has_report"), [("Completed", True), ("Nothing reviewed", False)])
def test_a_round_that_is_over_says_what_came_of_it(
    monkeypatch: pytest.MonkeyPatch, name: str, has_report: bool
) -> None:
    standing = stand(monkeypatch, StateType.COMPLETED, name, is_over=True)
    told = "This round is over. The reason."
    assert standing == Standing(takes_answers=False, kind="one that is over", words=told, has_report=has_report)


def test_a_round_whose_run_was_deleted_takes_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    standing = stand(monkeypatch, None)
    assert (standing.takes_answers, standing.can_be_retried) == (False, False)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (StateType.RUNNING, "one whose archive is being made"),
        (StateType.CRASHED, "one whose run stopped while its archive was being made"),
        (StateType.COMPLETED, "one that is over"),
        (None, "one whose run was deleted"),
    ],
)
def test_who_answers_too_late_is_told_what_kind_of_round_was_found(
    monkeypatch: pytest.MonkeyPatch, kind: StateType | None, found: str
) -> None:
    stand(monkeypatch, kind, is_over=True)
    with pytest.raises(AnswerError, match=rf"^Expected a round that takes answers, found {found}\. [A-Z]"):
        require_open(str(RUN))


@pytest.mark.parametrize("is_over", [False, True])
def test_while_prefect_is_away_people_go_on(monkeypatch: pytest.MonkeyPatch, is_over: bool) -> None:
    def away(_: list[UUID]) -> dict[UUID, RunState]:
        raise PrefectUnavailableError(OSError())

    monkeypatch.setattr(standings, "read_runs", away)
    monkeypatch.setattr(standings, "is_over", lambda _: is_over)
    assert standing_of(str(RUN)).takes_answers is not is_over

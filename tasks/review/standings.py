"""What has become of a round on the front page: whether it takes answers, and what people are told who open it."""

from dataclasses import dataclass
from uuid import UUID

from tasks.orchestration.child_runs import RunState, read_runs
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.orchestration.retries import RetryPolicy
from tasks.review.own_page import AnswerError, is_over
from tasks.review.rounds import NOTHING_REVIEWED

_STAY = "What was answered stays"
_PATIENCE = RetryPolicy(attempts=3, first_s=0.2)  # of who waits at a page


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The standing of a round.

    Attributes:
        takes_answers: Whether somebody will read what is answered now.
        words: What people are told; empty if the round waits for them.
        can_be_retried: Whether a worker would carry its run on.
        has_report: Whether its run has left a report.
    """

    takes_answers: bool
    words: str = ""
    can_be_retried: bool = False
    has_report: bool = False


def standing_of(run: str) -> Standing:
    """Return the standing of the round of a flow run; while Prefect does not answer, it is taken to go on.

    Raises:
        StorageError: The object store does not answer.
    """
    try:
        state = _PATIENCE.call(lambda: read_runs([UUID(run)])).get(UUID(run))
    except PrefectUnavailableError:
        return _being_made() if is_over(run) else Standing(takes_answers=True)
    if state is None:
        return Standing(takes_answers=False, words="The run of this round was deleted: start a new review.")
    return _standing(state, is_closed=is_over(run))


def require_open(run: str) -> None:
    """Check that somebody will read what is answered now.

    Raises:
        AnswerError: Nobody will; it says how to go on.
        StorageError: The object store does not answer.
    """
    standing = standing_of(run)
    if not standing.takes_answers:
        raise AnswerError(f"Expected a round that takes answers, found another. {standing.words}")


def _standing(state: RunState, *, is_closed: bool) -> Standing:
    if state.completed:
        has_report = state.state != NOTHING_REVIEWED
        return Standing(takes_answers=False, words=f"This round is over. {state.message}", has_report=has_report)
    retry = f"`studio retry {state.id}` has the run go on."
    if state.is_cancelled:
        words = f"The run of this round was cancelled, and nobody would read an answer. {_STAY}: {retry}"
        return Standing(takes_answers=False, words=words, can_be_retried=True)
    if state.has_stopped:
        so_far = "" if is_closed else " Correct what is wrong, or answer what is open, before that."
        words = f"The run of this round is {state.state}: {state.message} {_STAY}: {retry}{so_far}"
        return Standing(takes_answers=not is_closed, words=words, can_be_retried=True)
    return _being_made() if is_closed else Standing(takes_answers=True)


def _being_made() -> Standing:
    words = "The archive of this round is being made. If none comes of it, reload this page to correct an answer."
    return Standing(takes_answers=False, words=words)

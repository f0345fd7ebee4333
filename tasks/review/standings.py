"""What has become of a round on the front page: whether it takes answers, and what people are told who open it."""

from dataclasses import dataclass
from uuid import UUID

from tasks.errors import StudioError, expected_found_fix
from tasks.orchestration.child_runs import RunState, read_runs
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.orchestration.retries import RetryPolicy
from tasks.review.rounds import ANSWERS, CLOSED, NOTHING_REVIEWED, round_key
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

_STAY = "What was answered stays"
_PATIENCE = RetryPolicy(attempts=3, first_s=0.2)  # of who waits at a page
_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class AnswerError(StudioError):
    """An answer that does not fit its image, or that nobody would read."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The standing of a round.

    Attributes:
        takes_answers: Whether somebody will read what is answered now.
        kind: What kind of round it is that takes no answers, such as `one that is over`; empty if it takes them.
        words: What people are told; empty if the round waits for them.
        can_be_retried: Whether a worker would carry its run on.
        has_report: Whether its run has left a report.
    """

    takes_answers: bool
    kind: str = ""
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
        words = "The run of this round was deleted: start a new review."
        return Standing(takes_answers=False, kind="one whose run was deleted", words=words)
    return _standing(state, is_closed=is_over(run))


def require_open(run: str) -> None:
    """Check that somebody will read what is answered now.

    Raises:
        AnswerError: Nobody will; it says how to go on.
        StorageError: The object store does not answer.
    """
    standing = standing_of(run)
    if not standing.takes_answers:
        raise AnswerError(expected_found_fix("a round that takes answers", standing.kind, standing.words))


def is_over(run: str) -> bool:
    """Return whether an archive is being made of the answers, or is published: later ones would be lost."""
    kept = {key.rpartition("/")[2] for key in _RUNS.keys(round_key(run, ""))}
    return not kept.isdisjoint({ANSWERS, CLOSED})


def _standing(state: RunState, *, is_closed: bool) -> Standing:
    if state.completed:
        has_report = state.state != NOTHING_REVIEWED
        words = f"This round is over. {state.message}"
        return Standing(takes_answers=False, kind="one that is over", words=words, has_report=has_report)
    retry = f"`studio retry {state.id}` has the run go on."
    if state.is_cancelled:
        words = f"The run of this round was cancelled, and nobody would read an answer. {_STAY}: {retry}"
        return Standing(takes_answers=False, kind="one whose run was cancelled", words=words, can_be_retried=True)
    if state.has_stopped:
        so_far = "" if is_closed else " Correct what is wrong, or answer what is open, before that."
        words = f"The run of this round is {state.state}: {state.message} {_STAY}: {retry}{so_far}"
        kind = "one whose run stopped while its archive was being made" if is_closed else ""
        return Standing(takes_answers=not is_closed, kind=kind, words=words, can_be_retried=True)
    return _being_made() if is_closed else Standing(takes_answers=True)


def _being_made() -> Standing:
    words = "The archive of this round is being made. If none comes of it, reload this page to correct an answer."
    return Standing(takes_answers=False, kind="one whose archive is being made", words=words)

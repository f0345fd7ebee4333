"""What a person reads in the log of a run that could not do its work."""

import errno
import os

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State

from flows.validate_dataset import validate_dataset
from tasks.errors import StudioError
from tasks.orchestration import current_run, outcome
from tests.flows.run_log import run_log

pytestmark = pytest.mark.usefixtures("stack")


class NoAnswerError(StudioError):
    transient = True


@flow
@outcome.fail_flow_with_message
def try_again() -> State:
    """A service that answers the second time."""
    answers = iter([NoAnswerError("Expected an answer of the store, found none."), None])

    @task(retries=1)
    def ask() -> None:
        if error := next(answers):
            raise error

    current_run.log_step("asking")
    ask()
    return outcome.completed("it answered")


@flow
@outcome.fail_flow_with_message
def fill_the_disk() -> State:
    """A disk that has no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "merged.jpg")


@flow
@outcome.fail_flow_with_message
def stumble() -> State:
    """A defect of ours."""
    raise ZeroDivisionError("a defect")


def test_a_reason_is_logged_once_and_without_a_traceback() -> None:
    state = validate_dataset(archive="missing-for-log.zip", return_state=True)
    log = run_log(state, str(state.message))
    assert [line for line in log if str(state.message) in line] == [f"Failed: {state.message}"]
    assert log[-1].startswith("Failed: ")
    assert not [line for line in log if "Traceback" in line or "Finished in state" in line]
    assert "checking missing-for-log.zip" in log


def test_a_retry_of_a_step_is_logged_in_words() -> None:
    log = run_log(try_again(return_state=True), "it answered")
    assert log[-3:] == [
        "asking",
        "Expected an answer of the store, found none. Attempt 1 of 1 follows immediately.",
        "Completed: it answered",
    ]


def test_a_full_disk_is_logged_with_what_to_do_and_without_a_traceback() -> None:
    state = fill_the_disk(return_state=True)
    assert "No space left on device: 'merged.jpg'. Make room on this disk" in str(state.message)
    assert "Traceback" not in "".join(run_log(state, "Make room"))


def test_a_defect_is_logged_with_its_traceback() -> None:
    log = run_log(stumble(return_state=True), "a defect")
    assert "Traceback" in "".join(log)

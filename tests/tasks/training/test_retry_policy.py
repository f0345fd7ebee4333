"""What follows a training process that ended without a model."""

import pytest

from tasks.training.job import Failure
from tasks.training.retry_policy import MAX_FAILURES_WITHOUT_PROGRESS, RetryState, is_memory_error, next_attempt

MEMORY, KILLED, OTHER = Failure("too much", memory=True), Failure("gone", killed=True), Failure("ValueError: no")


@pytest.mark.parametrize(
    ("attempt", "failure", "epochs", "expected"),
    [
        (RetryState(16), MEMORY, 0, RetryState(8, 1)),
        (RetryState(16), MEMORY, 3, RetryState(8, 0)),
        (RetryState(5), MEMORY, 0, RetryState(2, 1)),
        (RetryState(1), MEMORY, 0, None),
        (RetryState(16), KILLED, 0, RetryState(16, 1)),
        (RetryState(16, 1), KILLED, 0, RetryState(8, 2)),
        (RetryState(16, 1), KILLED, 1, RetryState(16, 0)),
        (RetryState(1), KILLED, 0, RetryState(1, 1)),
        (RetryState(1, 1), KILLED, 0, None),
        (RetryState(16, MAX_FAILURES_WITHOUT_PROGRESS), KILLED, 0, None),
        (RetryState(16), OTHER, 5, None),
    ],
)
def test_the_next_attempt_follows_from_the_failure_and_the_epochs(
    attempt: RetryState, failure: Failure, epochs: int, expected: RetryState | None
) -> None:
    assert next_attempt(attempt, failure, epochs) == expected


def test_no_device_is_left_without_an_image() -> None:
    assert next_attempt(RetryState(8), MEMORY, 0, least=4) == RetryState(4, 1)
    assert next_attempt(RetryState(7), MEMORY, 0, least=4) is None


@pytest.mark.parametrize("failure", [MEMORY, KILLED])
def test_no_failure_is_tried_for_ever(failure: Failure) -> None:
    """Where no epoch is ever finished, the end comes."""
    attempt: RetryState | None = RetryState(4096)
    for _ in range(20):
        attempt = attempt and next_attempt(attempt, failure, 0)
    assert attempt is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", True),
        ("RuntimeError: could not create a primitive", True),
        ("_ArrayMemoryError: Unable to allocate 1.2 GiB for an array", True),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", True),
        ("RuntimeError: Dataset 'x' error", False),
        ("ModelError: Expected a model for the task 'segment'", False),
    ],
)
def test_an_error_of_memory_is_distinguished_from_other_errors(text: str, expected: bool) -> None:
    assert is_memory_error(text) is expected

"""What follows a training process that ended without a model."""

import pytest

from tasks.training.job import Failure
from tasks.training.restarts import MAX_FAILURES_WITHOUT_PROGRESS, Attempt, is_memory_error, next_attempt

MEMORY = Failure(reason="too much", memory=True)
KILLED = Failure(reason="gone", killed=True)
OTHER = Failure(reason="ValueError: no")


@pytest.mark.parametrize(
    ("attempt", "failure", "epochs", "expected"),
    [
        (Attempt(16), MEMORY, 0, Attempt(8, 1)),
        (Attempt(16), MEMORY, 3, Attempt(8, 0)),
        (Attempt(5), MEMORY, 0, Attempt(2, 1)),
        (Attempt(1), MEMORY, 0, None),
        (Attempt(16), KILLED, 0, Attempt(16, 1)),
        (Attempt(16, 1), KILLED, 0, Attempt(8, 2)),
        (Attempt(16, 1), KILLED, 1, Attempt(16, 0)),
        (Attempt(1), KILLED, 0, Attempt(1, 1)),
        (Attempt(1, 1), KILLED, 0, None),
        (Attempt(16, MAX_FAILURES_WITHOUT_PROGRESS), KILLED, 0, None),
        (Attempt(16), OTHER, 5, None),
    ],
)
def test_the_next_attempt_follows_from_the_failure_and_the_epochs(
    attempt: Attempt, failure: Failure, epochs: int, expected: Attempt | None
) -> None:
    assert next_attempt(attempt, failure, epochs) == expected


def test_no_device_is_left_without_an_image() -> None:
    assert next_attempt(Attempt(8), MEMORY, 0, least=4) == Attempt(4, 1)
    assert next_attempt(Attempt(7), MEMORY, 0, least=4) is None


@pytest.mark.parametrize("failure", [MEMORY, KILLED])
def test_no_failure_is_tried_for_ever(failure: Failure) -> None:
    """If no epoch is ever finished, the attempts end."""
    attempt: Attempt | None = Attempt(4096)
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
        ("Expected a model for the task 'segment'", False),
    ],
)
def test_an_error_of_memory_is_distinguished_from_other_errors(text: str, expected: bool) -> None:
    assert is_memory_error(text) is expected

"""What to do when the training process ends without a model."""

from dataclasses import dataclass, replace

from tasks.training.job import Failure

MAX_FAILURES_WITHOUT_PROGRESS = 4
_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "insufficient memory",
    "not enough memory",
    "bad_alloc",
    "out of shared memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "unable to find an engine",
    "could not create a primitive",  # oneDNN, on a CPU
    "killed by signal: Killed",
)


@dataclass(frozen=True)
class RetryState:
    """How the training is tried: `batch` images in a step, after so many attempts without a finished epoch."""

    batch: int
    failures_without_progress: int = 0


def is_memory_error(text: str) -> bool:
    """Whether an error, in the words of torch, CUDA, numpy, OpenCV or the C++ runtime, is about missing memory."""
    return any(words.lower() in text.lower() for words in _MEMORY)


def next_attempt(attempt: RetryState, failure: Failure, epochs: int, least: int = 1) -> RetryState | None:
    """Return how to try again after `epochs` were finished, or None where that would end the same way.

    No batch is smaller than `least`, one image for each device.

    Too little memory halves the batch. A process that was killed gets the same batch once more; killed again without a
    finished epoch, it is taken for one that the kernel ended for its memory. Any other error is final.
    """
    if not (failure.memory or failure.killed):
        return None
    failures = 0 if epochs else attempt.failures_without_progress + 1
    if failure.killed and failures < 2:
        return replace(attempt, failures_without_progress=failures)
    if attempt.batch // 2 < least or (failure.killed and failures > MAX_FAILURES_WITHOUT_PROGRESS):
        return None
    return RetryState(attempt.batch // 2, failures)

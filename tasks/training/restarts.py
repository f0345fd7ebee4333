"""When a training process that ended without a model is started again, and with which batch."""

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
class Attempt:
    """One start of the training process: `batch` images in a step, after so many starts without a finished epoch."""

    batch: int
    failures_without_progress: int = 0


def is_memory_error(text: str) -> bool:
    """Return whether an error of torch, CUDA, NumPy, OpenCV or the C++ runtime is about missing memory."""
    return any(words.lower() in text.lower() for words in _MEMORY)


def next_attempt(attempt: Attempt, failure: Failure, epochs: int, least: int = 1) -> Attempt | None:
    """Return the next attempt after `epochs` were finished; None if the failure is final.

    Too little memory halves the batch, down to `least`, one image for each device. A killed process gets the same batch
    once more; killed again without a finished epoch, it counts as ended by the kernel for its memory.
    """
    if not (failure.memory or failure.killed):
        return None
    failures = 0 if epochs else attempt.failures_without_progress + 1
    if failure.killed and failures < 2:
        return replace(attempt, failures_without_progress=failures)
    if attempt.batch // 2 < least or (failure.killed and failures > MAX_FAILURES_WITHOUT_PROGRESS):
        return None
    return Attempt(attempt.batch // 2, failures)

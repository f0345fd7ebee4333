"""What MLflow's own handlers refuse because a rule of ours says so: an error of MLflow, and a note for the audit log.

The door cannot read it from the answer: there are many kinds, and MLflow refuses for reasons of its own, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NOTED: ContextVar[list[str]] = ContextVar("noted")


@contextmanager
def noted_refusals() -> Iterator[list[str]]:
    """Yield a list that gets the reason of each refusal in the block, in the threads that work for it, too."""
    token = _NOTED.set([])
    try:
        yield _NOTED.get()
    finally:
        _NOTED.reset(token)


def refusal(expected: str, found: str, fix: str) -> Exception:
    """Return the error of a refusal, which MLflow answers with 400."""
    from mlflow.exceptions import MlflowException

    message = f"Expected {expected}, found {found}: {fix}."
    _NOTED.get([]).append(message)
    error: MlflowException = MlflowException.invalid_parameter_value(message)
    return error

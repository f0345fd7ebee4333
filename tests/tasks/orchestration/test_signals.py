"""A cancellation comes between one step and the next, not into one."""

import signal

import pytest

from tasks.orchestration.signals import defer_cancellation


class Cancelled(BaseException):
    """What a run does when a worker cancels it."""


def cancel(*_: object) -> None:
    raise Cancelled


def step(done: list[str]) -> None:
    """Be cancelled in the middle."""
    with defer_cancellation():
        signal.raise_signal(signal.SIGTERM)
        done.append("the step")


def test_a_cancellation_takes_effect_at_the_end() -> None:
    before, done = signal.signal(signal.SIGTERM, cancel), list[str]()
    try:
        with pytest.raises(Cancelled):
            step(done)
        assert done == ["the step"]
        with pytest.raises(Cancelled):
            signal.raise_signal(signal.SIGTERM)
        with defer_cancellation():
            pass
    finally:
        signal.signal(signal.SIGTERM, before)

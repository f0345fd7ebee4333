"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(attempt: Callable[[], T], expected: str, seconds: float = 30, every_s: float = 0.1) -> T:
    """Return the first result of `attempt` that is true; the test fails if none is within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := attempt()):
        assert time.monotonic() < deadline, f"expected within {seconds:g} s: {expected}; found {result!r}"
        time.sleep(every_s)
    return result

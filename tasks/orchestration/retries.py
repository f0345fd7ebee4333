"""When a call to a service that does not answer is tried again."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import TypeVar

from tasks.errors import StudioError

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Pauses between attempts, in seconds: `first_s`, then `factor` times the one before, at most `longest_s`.

    There are at most `attempts` (None: any number), and none begins later than `total_s` after the first failure. Where
    a client library makes the pauses itself (botocore, MLflow), `attempts` alone counts.
    """

    attempts: int | None = None
    first_s: float = 0.0
    factor: float = 2.0
    longest_s: float = inf
    total_s: float = inf

    def pauses(self) -> Iterator[float]:
        """Yield the seconds between one attempt and the next."""
        pause = self.first_s
        for _ in count() if self.attempts is None else range(self.attempts - 1):
            yield min(pause, self.longest_s)
            pause *= self.factor

    def call(self, function: Callable[[], R]) -> R:
        """Return what `function` returns, called again after each error that is `transient`.

        Raises:
            StudioError: It is not `transient`, or no attempt is left.
        """
        deadline = inf
        for pause in self.pauses():
            try:
                return function()
            except StudioError as error:
                deadline = min(deadline, time.monotonic() + self.total_s)
                if not error.transient or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - callers shall not all come back at once
        return function()


ONCE = RetryPolicy(attempts=1)

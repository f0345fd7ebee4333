"""Work done side by side, in order, in bounded memory."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    window: int,
    weight: Callable[[Item], int] = lambda _: 0,
    most: int = 0,
) -> Generator[Result]:
    """Yield `function(item)` for each item in the order of the items, computed in `threads` threads.

    At most `window` items are taken ahead of the one that is yielded, and of those that weigh something no more than
    weigh `most` together, or one. The first error stops the rest: what has not begun is dropped, what has is waited
    for. Closing the generator early does the same.
    """
    pending: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="pipe") as pool:
        try:
            for item in items:
                pending.append((weight(item), pool.submit(function, item)))
                held += pending[-1][0]
                while len(pending) >= window or (held > most and held > pending[-1][0]):
                    weighed, future = pending.popleft()
                    held -= weighed
                    yield future.result()
            while pending:
                yield pending.popleft()[1].result()
        finally:
            for _, future in pending:
                future.cancel()


def prefetch_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield (item, `function(item)`) in order; the next one is computed while the caller is at work on this one."""
    before: tuple[Item, Future[Result]] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        for item in items:
            future = pool.submit(function, item)
            if before:
                yield before[0], before[1].result()
            before = item, future
        if before:
            yield before[0], before[1].result()


class MemoryBudget:
    """Bytes that pictures may take while they are worked on, all threads together."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._changed = most, 0, threading.Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait until there is room for `amount`, and hold it in the block; one that is larger than all gets all."""
        amount = min(amount, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._held + amount <= self._most)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()

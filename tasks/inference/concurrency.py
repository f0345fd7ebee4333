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

    At most `window` items are in work at a time, and of those with a weight one, or as many as weigh `most` together.
    After the first error, or if the generator is closed early, items that have not begun are dropped.
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


class MemoryBudget:
    """Bytes that pictures may take while they are worked on, all threads together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changed = threading.Condition()

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

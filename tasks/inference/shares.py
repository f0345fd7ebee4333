"""The chunks of a run that one process does: its own share, or all shares that no run is at work on."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tasks.inference.work_plan import Chunk
from tasks.inference.work_queue import POLL_INTERVAL_S, WorkQueue
from tasks.storage.s3_client import StorageError


class Share(Protocol):
    """The chunks that one process has to do."""

    def is_done(self) -> bool:
        """Whether nothing is left for this process."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield chunks that are not done; when it ends, ask `is_done` and begin again."""


class FixedShare:
    """The chunks whose number modulo `count` is `number`.

    Raises:
        ValueError: There is no such share.
    """

    def __init__(self, queue: WorkQueue, number: int = 0, count: int = 1) -> None:
        if not 0 <= number < count:
            raise ValueError(f"expected a share from 0 to {count - 1}, found {number}")
        self._queue = queue
        self._numbers = range(number, queue.plan.chunks, count)

    def is_done(self) -> bool:
        """Whether all chunks of this share are done, or the run is over."""
        return self._queue.is_over(self._numbers)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks of this share that are not done, from the first on."""
        return _missing(self._queue, self._numbers)


class UnattendedShares:
    """The chunks of all shares whose flow run has ended or has not begun; `is_at_work` says of each share whether.

    They are done from the last on, because a run that begins late does its share from the first on.
    """

    def __init__(self, queue: WorkQueue, is_at_work: Sequence[Callable[[], bool]]) -> None:
        self._queue = queue
        self._is_at_work = is_at_work

    def is_done(self) -> bool:
        """Whether all chunks of all shares are done."""
        return self._queue.is_over()

    def chunks(self) -> Iterator[Chunk]:
        """Wait until there is something to do or all is done; yield it."""
        has_work = False
        while not has_work and not self.is_done():
            for number, is_at_work in enumerate(self._is_at_work):
                if is_at_work():
                    continue
                numbers = range(number, self._queue.plan.chunks, len(self._is_at_work))
                for chunk in _missing(self._queue, numbers[::-1]):
                    has_work = True
                    yield chunk
                    if is_at_work():
                        break
            if not has_work:
                time.sleep(POLL_INTERVAL_S)


def _missing(queue: WorkQueue, numbers: Sequence[int]) -> Iterator[Chunk]:
    """Yield the chunks of these numbers that are not done when their turn comes; none once the run is over."""
    queue.done()
    for number in numbers:
        if queue.is_done(number):
            continue
        try:
            yield queue.chunk(number)
        except StorageError:
            if queue.is_over():
                return
            raise

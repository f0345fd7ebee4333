"""Room for the pictures that live predictions hold in memory, which a client that sends slowly does not keep long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

TIMEOUT_S = 60.0  # for a picture to come
GRACE_S = 2.0  # and while others wait: this, and what its bytes take at the least speed
LEAST_SPEED = 4 * 2**20  # bytes a second


class PictureRoom:
    """So many pictures at one time; others wait unread.

    As long as somebody waits, a picture has to come at the least speed: else a few clients that send one byte and no
    more would keep everybody out for a minute.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._waiting = 0
        self._readings: dict[asyncio.Timeout, float] = {}  # until when each has to end while others wait

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold the place of a picture, from before it is read until it is answered."""
        if self._places.locked():
            self._hurry()
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    @contextlib.asynccontextmanager
    async def reading(self, size: int) -> AsyncIterator[None]:
        """Read a picture of at most `size` bytes, in a place that is held.

        Raises:
            TimeoutError: It has not come in time.
        """
        now = asyncio.get_running_loop().time()
        hurried = now + GRACE_S + size / LEAST_SPEED
        async with asyncio.timeout_at(hurried if self._waiting else now + TIMEOUT_S) as limit:
            self._readings[limit] = hurried
            try:
                yield
            finally:
                del self._readings[limit]

    def _hurry(self) -> None:
        for limit, hurried in self._readings.items():
            if not limit.expired():
                limit.reschedule(hurried)

"""Searches of the logs read files of hundreds of megabytes: they are bounded, and leave the threads to other pages."""

import asyncio
import threading
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from infra.logs.reader import Check, SearchEndedError

AT_ONCE = 2
LONGEST_S = 10.0
PATIENCE_S = 20.0


class Searches:
    """A few searches at one time, one of a person; each ends after a while, or when its client has left."""

    def __init__(self) -> None:
        self._rooms = asyncio.Semaphore(AT_ONCE)
        self._of_people = WeakValueDictionary[str, asyncio.Lock]()

    async def run(self, request: Request, person: str, work: Callable[[Check], Response]) -> Response:
        """Return what `work` returns, which is given what ends it: it runs in a thread.

        Raises:
            HTTPException: Other searches have taken too long.
            TimeoutError: A service has, that `work` asks.
        """
        own = self._of_people.setdefault(person, asyncio.Lock())
        try:
            async with asyncio.timeout(PATIENCE_S) as patience, own, self._rooms:
                patience.reschedule(None)
                return await _run(request, work)
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise HTTPException(
                429,
                f"Expected fewer searches of the logs at one time, found others for {PATIENCE_S:g} s. Try again.",
                {"Retry-After": f"{PATIENCE_S:.0f}"},
            ) from error


async def _run(request: Request, work: Callable[[Check], Response]) -> Response:
    ended = threading.Event()
    until = time.monotonic() + LONGEST_S

    def check() -> None:
        if ended.is_set() or time.monotonic() > until:
            raise SearchEndedError

    leaving = asyncio.create_task(_end_with_the_client(request, ended))
    try:
        return await run_in_threadpool(work, check)
    finally:
        ended.set()
        leaving.cancel()


async def _end_with_the_client(request: Request, ended: threading.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ended.set()

"""Searches of the logs: how many there are at one time, and when they end."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from infra.front_page import searches
from infra.front_page.searches import AT_ONCE, Searches
from infra.logs.reader import Check, SearchEndedError


def request_of(receive: Callable[[], Awaitable[Message]]) -> Request:
    return Request({"type": "http", "method": "GET", "path": "/logs/lines", "headers": []}, receive)


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("a client that stays says nothing")


def until_ended(check: Check) -> Response:
    """A search that finds no end of lines."""
    while True:
        try:
            check()
        except SearchEndedError:
            return Response("ended")
        time.sleep(0.01)


def test_few_searches_go_on_at_one_time_and_one_of_a_person() -> None:
    running, most, lock = Counter[str](), Counter[str](), threading.Lock()

    def search(person: str) -> Callable[[Check], Response]:
        def work(check: Check) -> Response:  # noqa: ARG001
            with lock:
                running[person] += 1
                most["all"] = max(most["all"], running.total())
                most[person] = max(most[person], running[person])
            time.sleep(0.02)
            with lock:
                running[person] -= 1
            return Response()

        return work

    async def all_of_them() -> None:
        shared = Searches()
        people = ["vera"] * 8 + ["otto", "ada"]
        await asyncio.gather(*(shared.run(request_of(stays), name, search(name)) for name in people))

    asyncio.run(all_of_them())
    assert most == {"all": AT_ONCE, "vera": 1, "otto": 1, "ada": 1}


def test_a_search_ends_when_its_client_leaves() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def leaves() -> Message:
        return messages.pop(0)

    began = time.monotonic()
    asyncio.run(Searches().run(request_of(leaves), "vera", until_ended))
    assert time.monotonic() - began < searches.LONGEST_S / 2


def test_a_search_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "LONGEST_S", 0.05)
    assert asyncio.run(Searches().run(request_of(stays), "vera", until_ended)).body == b"ended"


def test_who_has_waited_long_for_other_searches_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "LONGEST_S", 0.3)
    monkeypatch.setattr(searches, "PATIENCE_S", 0.05)

    async def two() -> list[Response | BaseException]:
        shared = Searches()
        asked = (shared.run(request_of(stays), "vera", until_ended) for _ in range(2))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second = asyncio.run(two())
    assert isinstance(first, Response)
    assert isinstance(second, HTTPException)
    assert (second.status_code, second.headers) == (429, {"Retry-After": "0"})

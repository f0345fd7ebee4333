"""What the front door asks of each request, without a database: the headers, and the threads that answer."""

import asyncio
import threading

import httpx
import pytest
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.accounts.database import Database
from infra.accounts.gate import Asked, Gate
from infra.accounts.visitors import CHECK, NAME_HEADER, REFUSED_HEADER, ROLE_HEADER, SECRET_HEADER, Visitor
from infra.front_page.people import FrontDoorAnswers, asked_of
from tests.infra.front_page.in_process import NOBODY


def connection(**headers: str) -> HTTPConnection:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "path": CHECK, "query_string": b"", "headers": sent})


@pytest.mark.parametrize(
    ("headers", "is_socket"),
    [
        ({"x_forwarded_method": "GET", "x_studio_socket": "websocket"}, True),
        (
            {"x_forwarded_method": "GET", "sec_websocket_key": "x", "upgrade": "websocket", "connection": "Upgrade"},
            False,
        ),
        ({"x_forwarded_method": "DELETE", "sec_websocket_key": "x"}, False),
        ({"x_forwarded_method": "DELETE", "x_studio_socket": "websocket"}, False),
        ({"x_forwarded_method": "WEBSOCKET"}, False),
    ],
)
def test_a_socket_is_what_the_front_door_has_seen_as_one(headers: dict[str, str], is_socket: bool) -> None:
    """Else an admin could delete by a request that passes for a socket, which is in no audit log."""
    assert asked_of(connection(**headers)).is_socket == is_socket


def test_the_front_door_is_answered_while_pages_hold_all_threads() -> None:
    assert asyncio.run(_status_beside_slow_pages(60)) == 204


class _Kept(Gate):
    """A gate that keeps nothing, so that no database is needed, and notes what it would have kept."""

    def __init__(self) -> None:
        super().__init__(Database(f"postgresql+psycopg2://nobody:x@{NOBODY}/none"))
        self.kept: list[tuple[str, str, str]] = []

    def keep_refusal(self, asked: Asked, visitor: Visitor, reason: str) -> None:
        self.kept.append((visitor.name, asked.path, reason))


@pytest.mark.parametrize(("name", "secret", "kept"), [("gpu-7", "s", 1), ("", "s", 0), ("gpu-7", "t", 0)])
def test_what_a_service_says_that_it_has_refused_is_kept_and_lets_nothing_in(name: str, secret: str, kept: int) -> None:
    """Even if a client could send that header through the front door."""
    gate = _Kept()

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=404)(scope, receive, send)

    async def ask() -> int:
        headers = {"X-Forwarded-Method": "POST", "X-Forwarded-Uri": "/prefect/api/events", SECRET_HEADER: secret}
        told = {NAME_HEADER: name, ROLE_HEADER: "worker", REFUSED_HEADER: "expected%20%C3%A4%2C%20found%20b"}
        app = FrontDoorAnswers(page, gate=gate, secret="s")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return (await client.get(CHECK, headers=headers | told)).status_code

    assert asyncio.run(ask()) == (403 if secret == "s" else 404)
    assert gate.kept == [("gpu-7", "/prefect/api/events", "expected \xe4, found b")] * kept


async def _status_beside_slow_pages(pages: int) -> int:
    async def page(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("the question is answered before the page")

    gate = Gate(Database(f"postgresql+psycopg2://nobody:x@{NOBODY}/none"))
    app = FrontDoorAnswers(page, gate=gate, secret="s")
    goes_on = threading.Event()
    slow = [asyncio.create_task(run_in_threadpool(goes_on.wait, 30)) for _ in range(pages)]
    await asyncio.sleep(0.1)
    headers = {SECRET_HEADER: "s", "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/static/studio.css"}
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            answer = await asyncio.wait_for(client.get(CHECK, headers=headers), 5)
        return answer.status_code
    finally:
        goes_on.set()
        await asyncio.gather(*slow)

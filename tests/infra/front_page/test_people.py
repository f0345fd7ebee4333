"""What the front door asks of each request, without a database: the headers, and the threads that answer."""

import asyncio
import threading

import httpx
import pytest
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from infra.accounts.database import Database
from infra.accounts.gate import Gate
from infra.accounts.visitors import CHECK, SECRET_HEADER
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

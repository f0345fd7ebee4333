"""A server that ends, and a proxy that has connections to it."""

import asyncio
import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.request_log import RequestLog
from infra.web_server import LingeringServer
from tests.waiting import eventually


async def answer(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("done")


async def fail(request: Request) -> Response:
    raise ValueError(await request.body())


@contextlib.contextmanager
def running() -> Iterator[tuple[uvicorn.Server, int]]:
    """A server, and its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    app = Starlette(routes=[Route("/", answer, methods=["POST"]), Route("/fail", fail, methods=["POST"])])
    server = LingeringServer(uvicorn.Config(RequestLog(app), port=port, log_level="error", timeout_graceful_shutdown=3))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    eventually(lambda: server.started, "a server that answers")
    yield server, port
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_a_request_on_a_connection_that_is_kept_is_answered_while_the_server_ends() -> None:
    with running() as (server, port):
        proxy = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        proxy.request("POST", "/", b"1")
        assert proxy.getresponse().read() == b"done"
        server.should_exit = True
        eventually(lambda: is_refused(port), "no new connection", every_s=0.02)
        proxy.request("POST", "/", b"2")
        given = proxy.getresponse()
        assert given.read() == b"done"
        assert given.headers["connection"] == "close"


def test_an_error_leaves_the_connection_to_the_next_request() -> None:
    """Else the proxy, which was not told that it closes, loses the request of somebody else."""
    with running() as (_, port), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as proxy:
        for _ in range(10):
            proxy.request("POST", "/fail", b"1")
            given = proxy.getresponse()
            assert (given.status, given.headers["connection"]) == (500, None)
            given.read()
            proxy.request("POST", "/", b"2")
            assert proxy.getresponse().read() == b"done"


def is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0

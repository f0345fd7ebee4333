"""Which of several Tritons a call goes to; real ones: tests/flows/test_several_tritons.py."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.serving import servers
from tasks.serving.servers import ServersAwayError, TritonServer
from tests.stack_environment import CLOSED

AWAY = TritonServer("127.0.0.1:2", f"127.0.0.1:{CLOSED}")


class Live(BaseHTTPRequestHandler):
    """Says that it is live."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v2/health/live" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def live_server() -> Iterator[TritonServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Live)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield TritonServer(f"127.0.0.1:{server.server_port - 1}", f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def live() -> Iterator[TritonServer]:
    with live_server() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_away_until", {})


def name_servers(patch: pytest.MonkeyPatch, *named: TritonServer) -> None:
    patch.setenv("TRITON_TARGETS", ",".join(f"{server.grpc}/{server.http}" for server in named))


def test_a_single_server_is_not_asked_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_TARGETS", raising=False)
    monkeypatch.setattr(servers, "is_live", lambda _: pytest.fail("it was asked"))
    assert servers.live_servers() == [servers.current_server()]
    assert not servers.are_several()


def test_calls_go_to_the_first_that_answers_unless_one_is_chosen(
    monkeypatch: pytest.MonkeyPatch, live: TritonServer
) -> None:
    name_servers(monkeypatch, AWAY, live)
    assert servers.live_servers() == [live]
    assert servers.current_server() == live
    with servers.talking_to(AWAY):
        assert servers.current_server() == AWAY
    assert servers.current_server() == live


def test_if_none_answers_all_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = TritonServer("127.0.0.1:4", "127.0.0.1:3")
    name_servers(monkeypatch, AWAY, other)
    with pytest.raises(ServersAwayError, match=f"{AWAY}, {other}.*TRITON_TARGETS"):
        servers.live_servers()


def test_one_that_was_away_is_found_again_after_a_while(monkeypatch: pytest.MonkeyPatch, live: TritonServer) -> None:
    monkeypatch.setattr(servers, "_away_until", {live: float("inf")})
    assert not servers.is_live(live)
    monkeypatch.setattr(servers, "_away_until", {live: 0.0})
    assert servers.is_live(live)


def test_each_is_called_at_one_time_and_an_error_comes_after_the_others_are_done() -> None:
    both, done = threading.Barrier(2, timeout=10), list[TritonServer]()
    first, second = TritonServer("a:1", "a:2"), TritonServer("b:1", "b:2")

    def call() -> TritonServer:
        both.wait()
        if servers.current_server() == first:
            raise LookupError("the first")
        done.append(servers.current_server())
        return servers.current_server()

    with pytest.raises(LookupError, match="the first"):
        servers.call_on_each([first, second], call)
    assert done == [second]
    assert servers.call_on_each([second], servers.current_server) == {second: second}
    assert servers.call_on_each([], call) == {}


def test_each_address_of_a_name_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a headless service; a stand-in for a name server, which a test cannot have."""
    found = [(0, 0, 0, "", (address, 8001)) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setenv("TRITON_TARGETS", "dns:triton:8001/triton:8000")
    assert servers.list_servers() == [
        TritonServer("10.0.0.1:8001", "10.0.0.1:8000"),
        TritonServer("10.0.0.2:8001", "10.0.0.2:8000"),
        TritonServer("[fd00::1]:8001", "[fd00::1]:8000"),
    ]


def test_a_name_without_an_address_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_TARGETS", "dns:no-such-host.invalid:8001/no-such-host.invalid:8000")
    with pytest.raises(ServersAwayError, match=r"no-such-host.invalid \(TRITON_TARGETS\), found none"):
        servers.list_servers()

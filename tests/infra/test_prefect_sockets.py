"""What a visitor does with a WebSocket of Prefect, and for how long; the front page is a small server here."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import Message, Receive, Scope, Send

from infra import prefect_visitors
from infra.accounts.permissions import Part
from infra.prefect_visitors import Visitors
from infra.visitor_door import VisitorDoor

SECRET, OWN = "s" * 32, "studio:of-the-service"
KEY = "gpu-7:its-token"
CONNECT: Message = {"type": "websocket.connect"}
CLOSED: Message = {"type": "websocket.close", "code": 1008}
IN, OUT = "/api/events/in", "/api/events/out"
BASIC = f"Basic {base64.b64encode(KEY.encode()).decode()}"
OF_THE_MACHINE = {"x-studio-user": "gpu-7", "x-studio-role": "worker", "authorization": BASIC}
SESSION = "__Host-studio-session=of-vera"
OF_A_BROWSER = {"x-studio-user": "vera", "x-studio-role": "viewer", "cookie": SESSION}


class FrontPage(ThreadingHTTPServer):
    """It knows whose the keys are, and notes what it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.owners = {KEY: ("gpu-7", "worker"), "ada:hers": ("ada", "admin"), "otto:his": ("otto", "operator")}
        self.owners[SESSION] = ("vera", "viewer")
        self.status = 401  # of a key that it does not know
        self.asked: list[str] = []
        self.refused: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/auth/check"


class _Answer(BaseHTTPRequestHandler):
    server: FrontPage

    def do_GET(self) -> None:
        assert self.headers["X-Studio-Door"] == SECRET
        if reason := self.headers["X-Studio-Refused"]:
            self.server.refused.append((self.headers["X-Studio-User"], unquote(reason)))
        else:
            self.server.asked.append(self.headers["X-Forwarded-Uri"])
        _, _, given = self.headers.get("Authorization", "").partition(" ")
        key = self.headers.get("Cookie") or base64.b64decode(given).decode()
        name, role = self.server.owners.get(key, ("", ""))
        self.send_response(204 if name else self.server.status)
        if name:
            self.send_header("X-Studio-User", name)
            self.send_header("X-Studio-Role", role)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[FrontPage]:
    server = FrontPage()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_visitors, "ASKED_AGAIN_S", 0.05)


def said(token: object) -> Message:
    return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": token})}


def event(name: object) -> Message:
    return {"type": "websocket.receive", "text": json.dumps({"event": name})}


class Prefect:
    """It notes the events that it gets on a socket which says its password; what it hears then changes `page`."""

    def __init__(self) -> None:
        self.token: object = None
        self.got: list[Any] = []
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = dict(scope["headers"])
        assert (await receive())["type"] == "websocket.connect"
        self.token = json.loads((await receive())["text"])["token"]
        if self.token != OWN:
            await send({"type": "websocket.close", "code": 1002})
            return
        while (message := await receive())["type"] == "websocket.receive":
            self.got.append(json.loads(message["text"]))


def use(
    page: FrontPage, headers: dict[str, str], *messages: Message, path: str = IN, stays_s: float = 0
) -> tuple[Prefect, list[Any]]:
    """Send messages, stay for a while, and hang up unless it was closed; what Prefect got, and what came back."""
    prefect, answers = Prefect(), []
    visitors = Visitors(prefect, credential=OWN, check_address=page.address, secret=SECRET)
    door = VisitorDoor(visitors, part=Part.PREFECT, credential=OWN, secret=SECRET, unnamed_sockets=True)
    pending = [CONNECT, *messages]

    async def receive() -> Message:
        if pending:
            return pending.pop(0)
        await asyncio.sleep(stays_s)
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Message) -> None:
        answers.append(message)

    given = {"x-studio-door": SECRET, "x-studio-socket": "websocket", **headers}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "websocket", "path": path, "query_string": b"", "headers": raw}
    asyncio.run(asyncio.wait_for(door(scope, receive, send), 20))
    return prefect, answers


@pytest.mark.parametrize("headers", [OF_THE_MACHINE, {}], ids=["in the handshake", "in the first message"])
def test_a_worker_sends_the_events_that_runs_emit_and_the_audit_log_has_the_others(
    page: FrontPage, headers: dict[str, str]
) -> None:
    names = ["prefect.flow-run.heartbeat", "prefect.flow-run.Crashed", "studio.flow-run.crashed", "model.trained"]
    broken: list[Message] = [{"type": "websocket.receive", "text": text} for text in ("{", "[]", "[" * 99_999, "")]
    binary: Message = {"type": "websocket.receive", "bytes": b'{"event": "prefect.flow-run.Crashed"}', "text": None}
    prefect, answers = use(page, headers, said(KEY), *map(event, names), *broken, binary, event("model.trained"))
    assert [each["event"] for each in prefect.got] == [names[0], names[3], names[3]]
    assert answers == []
    assert [name for name, _ in page.refused] == ["gpu-7"] * 7
    assert "'prefect.flow-run.Crashed'" in page.refused[0][1]


def test_an_admin_sends_any_event(page: FrontPage) -> None:
    prefect, _ = use(page, {}, said("ada:hers"), event("prefect.flow-run.Crashed"))
    assert (len(prefect.got), page.refused) == (1, [])


@pytest.mark.parametrize("key", ["otto:his", "gpu-7:another", OWN, "", None, 7])
def test_a_socket_that_writes_is_opened_by_a_key_of_who_may(page: FrontPage, key: object) -> None:
    prefect, _ = use(page, {}, said(key), event("model.trained"))
    assert (prefect.token, prefect.got) == ("", [])


@pytest.mark.parametrize(
    ("headers", "first", "owner", "path", "becomes"),
    [
        (OF_THE_MACHINE, said("x"), KEY, IN, None),
        ({}, said(KEY), KEY, IN, ("gpu-7", "operator")),
        (OF_THE_MACHINE, said("x"), KEY, OUT, ("gpu-8", "worker")),
        ({}, said(KEY), KEY, OUT, None),
        (OF_A_BROWSER, said("x"), SESSION, OUT, None),
        (OF_A_BROWSER, said("x"), SESSION, OUT, ("vera", "operator")),
    ],
    ids=["writes", "writes, unnamed", "reads", "reads, unnamed", "reads, in a browser", "has another role"],
)
def test_a_socket_is_closed_when_its_key_opens_nothing_any_longer(
    page: FrontPage, headers: dict[str, str], first: Message, owner: str, path: str, becomes: tuple[str, str] | None
) -> None:
    """As after a password was changed, a token revoked, a person has signed out, or an account was shut."""

    def shut() -> None:
        if becomes:
            page.owners[owner] = becomes
        else:
            del page.owners[owner]

    timer = threading.Timer(0.5, shut)
    timer.start()
    prefect, answers = use(page, headers, first, path=path, stays_s=15)
    timer.join()
    assert (prefect.token, answers) == (OWN, [CLOSED])


def test_a_front_page_that_does_not_answer_closes_no_socket_and_opens_none(page: FrontPage) -> None:
    def go_away() -> None:
        page.owners, page.status = {}, 503

    timer = threading.Timer(0.3, go_away)
    timer.start()
    prefect, answers = use(page, OF_THE_MACHINE, said(KEY), event("model.trained"), stays_s=1)
    timer.join()
    assert (len(prefect.got), answers) == (1, [])
    assert use(page, {}, said(KEY))[0].token == ""


def test_a_visitor_who_shows_nothing_that_could_be_asked_about_again_is_closed(page: FrontPage) -> None:
    unshown = {"x-studio-user": "vera", "x-studio-role": "viewer"}
    assert use(page, unshown, said("x"), path=OUT, stays_s=15)[1] == [CLOSED]


def test_prefect_sees_no_key_of_a_visitor(page: FrontPage) -> None:
    for headers in (OF_THE_MACHINE, OF_A_BROWSER):
        prefect, answers = use(page, headers, said("x"), path=OUT, stays_s=0.5)
        assert (prefect.token, answers) == (OWN, [])
        own = f"Basic {base64.b64encode(OWN.encode()).decode()}".encode()
        assert (prefect.headers[b"authorization"], b"cookie" in prefect.headers) == (own, False)

"""Who comes through the front door into a service, and as whom the service sees them."""

import asyncio
import base64
import json
import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from infra.accounts.permissions import Part
from infra.front_page.starters import StartedByVisitor
from infra.prefect_visitors import UnderPrefix, Visitors
from infra.request_log import RequestLog
from infra.visitor_door import VisitorDoor, needed_role_behind, visitor_behind

SECRET = "s" * 32
OWN = "studio:of-the-service"
READING = {"method": "POST", "path": "/prefect/api/flow_runs/filter"}
ACTING = {"method": "POST", "path": "/prefect/api/variables/"}


class Service:
    """What is behind the door: it notes what it gets."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        if scope["type"] == "websocket":
            self.messages = [await receive(), await receive()]
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    @property
    def headers(self) -> dict[str, str]:
        assert self.scope is not None
        return {name.decode(): value.decode() for name, value in self.scope["headers"]}


def sent_by(name: str, role: str, secret: str = SECRET) -> dict[str, str]:
    return {"x-studio-door": secret, "x-studio-user": name, "x-studio-role": role}


def ask(app: Any, headers: dict[str, str], *received: Message, **scope: Any) -> list[dict[str, Any]]:
    """What the door sends back."""
    answers: list[dict[str, Any]] = []
    pending = list(received)

    async def send(message: Any) -> None:
        answers.append(message)

    async def receive() -> Any:
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(app({"type": "http", "query_string": b"", "headers": raw, **READING, **scope}, receive, send))
    return answers


def door(service: Service, secret: str = SECRET) -> VisitorDoor:
    return VisitorDoor(service, part=Part.PREFECT, credential=OWN, secret=secret, unnamed_sockets=True)


def test_a_visitor_is_let_in_with_the_services_own_credential() -> None:
    service = Service()
    given = {**sent_by("vera", "viewer"), "authorization": "Bearer hers", "cookie": "session=hers", "accept": "x"}
    assert ask(door(service), given)[0]["status"] == 204
    own = "Basic " + base64.b64encode(OWN.encode()).decode()
    assert service.headers == {"accept": "x", "authorization": own}
    visitor = visitor_behind(service.scope or {})
    assert visitor
    assert visitor.name == "vera"


def test_a_role_that_is_too_low_is_told_which_it_needs() -> None:
    service = Service()
    answers = ask(door(service), sent_by("otto", "operator"), **ACTING)
    assert answers[0]["status"] == 403
    assert "role admin" in json.loads(answers[1]["body"])["error"]
    assert service.scope is None
    assert ask(door(service), sent_by("ada", "admin"), **ACTING)[0]["status"] == 204


def test_nobody_is_let_in_through_the_front_door() -> None:
    service = Service()
    assert ask(door(service), {"x-studio-door": SECRET, "authorization": "Basic eDp5"})[0]["status"] == 401
    assert ask(door(service), sent_by("eve", "owner"))[0]["status"] == 401
    assert service.scope is None


@pytest.mark.parametrize("secret", ["t" * 32, ""])
def test_who_comes_another_way_is_nobody_here_and_keeps_their_key(secret: str) -> None:
    service = Service()
    ask(door(service), {**sent_by("ada", "admin", secret), "authorization": "theirs"}, **ACTING)
    assert service.headers["authorization"] == "theirs"
    assert visitor_behind(service.scope or {}) is None


def test_without_a_front_door_its_headers_open_nothing() -> None:
    service = Service()
    ask(door(service, secret=""), sent_by("ada", "admin", ""), **ACTING)
    assert visitor_behind(service.scope or {}) is None


SOCKET = {"type": "websocket", "path": "/api/events/out"}
CONNECT: Message = {"type": "websocket.connect"}


def said(token: object) -> Message:
    return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": token})}


def test_the_first_message_of_a_visitors_socket_has_the_services_password() -> None:
    service = Service()
    visitors = Visitors(service, credential=OWN, check_address="http://127.0.0.1:1/", secret=SECRET)
    ask(door_of(visitors), sent_by("vera", "viewer"), CONNECT, said("hers"), **SOCKET)
    assert json.loads(service.messages[1]["text"]) == {"type": "auth", "token": OWN}


@pytest.mark.parametrize("token", ["vera:hers", OWN, None, 1, ""])
def test_a_socket_without_a_known_key_has_none(token: object) -> None:
    """Nobody answers the question whose it is; Prefect's own password is nobody's."""
    service = Service()
    visitors = Visitors(service, credential=OWN, check_address="http://127.0.0.1:1/", secret=SECRET)
    ask(door_of(visitors), {"x-studio-door": SECRET}, CONNECT, said(token), **SOCKET)
    assert needed_role_behind(service.scope or {}) is not None
    assert json.loads(service.messages[1]["text"])["token"] == ""


def test_a_socket_of_a_role_that_is_too_low_is_closed() -> None:
    service = Service()
    answers = ask(door(service), sent_by("otto", "operator"), **{**SOCKET, "path": "/api/events/in"})
    assert answers == [{"type": "websocket.close", "code": 1008}]


def door_of(app: Any) -> VisitorDoor:
    return VisitorDoor(app, part=Part.PREFECT, credential=OWN, secret=SECRET, unnamed_sockets=True)


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/prefect/api/flow_runs/filter", "/api/flow_runs/filter"),
        ("/api/flow_runs/filter", "/api/flow_runs/filter"),
        ("/prefect/runs", "/prefect/runs"),
    ],
)
def test_prefect_knows_its_api_by_both_addresses(path: str, seen: str) -> None:
    service = Service()
    ask(UnderPrefix(service), {}, path=path, raw_path=path.encode())
    assert service.scope
    assert (service.scope["path"], service.scope["raw_path"]) == (seen, seen.encode())


@pytest.mark.parametrize(
    ("path", "location"),
    [("/", "/prefect/"), ("/runs/x", "/prefect/runs/x"), ("//evil.example", "/prefect//evil.example")],
)
def test_a_page_without_the_prefix_leads_to_the_one_with_it(path: str, location: str) -> None:
    answers = ask(UnderPrefix(Service()), {}, method="GET", path=path, raw_path=path.encode())
    assert (answers[0]["status"], dict(answers[0]["headers"])[b"location"]) == (307, location.encode())


def test_the_line_of_a_request_names_its_visitor(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infra")
    for app in (door(Service()), StartedByVisitor(Service(), SECRET)):
        ask(RequestLog(app), sent_by("ada", "viewer"))
    lines = [each.__dict__["fields"] for each in caplog.records if each.name == "infra.request_log"]
    assert [line["user"] for line in lines] == ["ada", "ada"]


class AnsweringService(Service):
    """A service that also answers requests of the door itself, with this status and JSON."""

    def __init__(self, status: int, known: object) -> None:
        super().__init__()
        self.status, self.known = status, known
        self.bodies: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(self.known).encode()})
            return
        self.bodies.append(json.loads((await receive())["body"]))
        await super().__call__(scope, receive, send)


RUN = "/api/flow_runs/3fa85f64-5717-4562-b3fc-2c963f66afa6"
OF_ADA = {"tags": ["old", "started-by:ada", "role:admin"], "state_type": "PAUSED", "state": {"state_details": {}}}


def change(service: Service, method: str, path: str, body: bytes) -> int:
    visitors = Visitors(service, credential=OWN, check_address="http://127.0.0.1:1/", secret=SECRET)
    sent: Message = {"type": "http.request", "body": body}
    return int(ask(door_of(visitors), sent_by("otto", "operator"), sent, method=method, path=path)[0]["status"])


def test_a_change_of_a_run_keeps_its_starter_and_one_without_a_body_passes() -> None:
    service = AnsweringService(200, OF_ADA)
    assert change(service, "PATCH", RUN, b'{"tags": ["new"]}') == 204
    assert change(service, "POST", f"{RUN}/resume", b"") == 204
    assert service.bodies == [{"tags": ["new", "started-by:ada", "role:admin"]}, {}]


@pytest.mark.parametrize(("status", "answered"), [(503, 503), (500, 503), (401, 503), (404, 404)])
def test_what_nobody_can_say_what_it_is_about_does_not_happen(status: int, answered: int) -> None:
    service = AnsweringService(status, {"detail": "x"})
    assert change(service, "PATCH", RUN, b'{"tags": []}') == answered
    assert change(service, "POST", f"{RUN}/resume", b"{}") == answered
    assert service.bodies == []

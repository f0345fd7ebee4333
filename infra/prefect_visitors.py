"""Visitors in front of Prefect: what their bodies may say, who started their runs, their sockets and their pages."""

import asyncio
import contextlib
import json
from functools import partial
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.accounts.permissions import SOCKET, Part, need_of
from infra.accounts.prefect_requests import Lookup, checks_body, lookup_of, permitted
from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from infra.front_page_questions import FrontPage, FrontPageAwayError, shown_by
from infra.prefect_sockets import auth_of
from infra.request_bodies import pass_on_changed
from infra.visitor_door import needed_role_behind, shown_behind, visitor_behind

PREFIX = "/prefect"
_FIRST_MESSAGE_S = 10.0  # within which a socket has to say who it is
ASKED_AGAIN_S = 10.0  # of an open socket: whether its key is still that of somebody who may
_EVENTS = "/api/events"
_EVENTS_IN = f"{_EVENTS}/in"


class UnderPrefix:
    """An ASGI application in front of Prefect, whose pages are under `/prefect`: its API answers there, too.

    Its pages ask `/prefect/api`, by the one host name as well as on 127.0.0.1. An address without the prefix leads to
    the page that is meant.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, by the path that Prefect knows."""
        path = scope.get("path", "")
        if path.startswith(f"{PREFIX}/api/"):
            raw = scope.get("raw_path") or path.encode()
            moved = {"path": path.removeprefix(PREFIX), "raw_path": raw.removeprefix(PREFIX.encode())}
            await self._app({**scope, **moved}, receive, send)
        elif scope["type"] == "http" and scope["method"] in {"GET", "HEAD"} and _is_page_without_prefix(path):
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            location = PREFIX.encode() + (scope.get("raw_path") or path.encode()) + query
            await send({"type": "http.response.start", "status": 307, "headers": [(b"location", location)]})
            await send({"type": "http.response.body"})
        else:
            await self._app(scope, receive, send)


def _is_page_without_prefix(path: str) -> bool:
    return not f"{path}/".startswith((f"{PREFIX}/", "/api/"))


class Visitors:
    """An ASGI application in front of Prefect's, behind a visitor door.

    Args:
        app: Prefect's.
        credential: Its `user:password`.
        check_address: Where the front page says who a key belongs to.
        secret: That of the front door.
    """

    def __init__(self, app: ASGIApp, *, credential: str, check_address: str, secret: str) -> None:
        self._app = app
        self._credential = credential
        self._front_page = FrontPage(check_address, secret=secret, prefix=PREFIX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at what a visitor sends; pass anything else on as it is."""
        visitor = visitor_behind(scope)
        needed = needed_role_behind(scope)
        if scope["type"] == "websocket" and (visitor or needed):
            needed = needed or need_of(Part.PREFECT, SOCKET, scope["path"]).role
            await self._watch(_Socket(self._front_page, scope, receive, self._credential, visitor, needed), scope, send)
        elif visitor is None:
            await self._app(scope, receive, send)
        elif scope["path"].endswith("/ui-settings"):
            await self._show_settings(scope, receive, send)
        elif checks_body(scope["method"], scope["path"], visitor):
            await self._check_body(scope, receive, send, visitor)
        else:
            await self._app(scope, receive, send)

    async def _check_body(self, scope: Scope, receive: Receive, send: Send, visitor: Visitor) -> None:
        method, path = scope["method"], scope["path"]

        async def change(body: Any) -> Any:  # noqa: ANN401 - JSON
            lookup = lookup_of(method, path, body, visitor)
            about = await self._read(lookup) if lookup else None
            return permitted(method, path, body, visitor, about)

        keep = partial(self._front_page.keep_refusal, scope, visitor)
        await pass_on_changed(self._app, scope, receive, send, change, keep)

    async def _read(self, lookup: Lookup) -> Any:  # noqa: ANN401 - JSON
        """What Prefect answers to a request of our own.

        Raises:
            RequestRefusedError: There is no such thing, or Prefect does not say what it is: then nothing is known that
                would let a visitor's request pass.
        """
        user, _, password = self._credential.partition(":")
        transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, auth=(user, password), base_url="http://127.0.0.1") as client:
            answer = await client.request(lookup.method, lookup.path, json=lookup.body)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise RequestRefusedError("expected an id that Prefect knows, found another", answer.status_code)
        if not answer.is_success:
            message = f"expected that Prefect says what this is about, found status {answer.status_code}: try again"
            raise RequestRefusedError(message, httpx.codes.SERVICE_UNAVAILABLE)
        return answer.json()

    async def _show_settings(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Prefect's settings of its page, which has no password to ask for: the door has opened already."""
        begun: list[Message] = []
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
            else:
                body.extend(message.get("body", b""))

        plain = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, collect)
        text = bytes(body)
        with contextlib.suppress(ValueError):
            text = json.dumps({**json.loads(text), "auth": None}).encode()
        (start,) = begun
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(text)).encode())]})
        await send({"type": "http.response.body", "body": text})

    async def _watch(self, socket: "_Socket", scope: Scope, send: Send) -> None:
        """Pass a socket on, and close it when its key opens it no longer."""
        passing = asyncio.ensure_future(self._app(scope, socket.receive, send))
        shut = asyncio.create_task(socket.wait_until_shut())
        try:
            await asyncio.wait({passing, shut}, return_when=asyncio.FIRST_COMPLETED)
            if passing.done():
                await passing
                return
        finally:
            for task in (passing, shut):
                task.cancel()
            await asyncio.gather(passing, shut, return_exceptions=True)
        await send({"type": "websocket.close", "code": 1008})


class _Socket:
    """What a visitor sends through a WebSocket, as Prefect may have it.

    In the first message Prefect's clients give a password: it gets Prefect's own. A socket that came without a key
    gives it there: the front page says whose it is.
    """

    def __init__(
        self,
        front_page: FrontPage,
        scope: Scope,
        receive: Receive,
        credential: str,
        visitor: Visitor | None,
        needed: UserRole,
    ) -> None:
        self._front_page = front_page
        self._scope = scope
        self._receive = receive
        self._credential = credential
        self._visitor = visitor
        self._needed = needed
        self._shown = shown_behind(scope)
        self._has_said_who = False

    async def receive(self) -> Message:
        """Return the next message; an event that the visitor may not send is left out, and in the audit log."""
        if not self._has_said_who:
            return await self._receive_first()
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive" or self._scope["path"] != _EVENTS_IN:
                return message
            with contextlib.suppress(RequestRefusedError):
                return await self._permitted(message)

    async def _receive_first(self) -> Message:
        message = await asyncio.wait_for(self._receive(), _FIRST_MESSAGE_S)
        if message["type"] == "websocket.connect":
            return message
        self._has_said_who = True
        asked = auth_of(message)
        if asked is None:
            return message
        token = self._credential if await self._is_known(asked.get("token")) else ""
        return {"type": "websocket.receive", "text": json.dumps({**asked, "token": token})}

    async def wait_until_shut(self) -> None:
        """Return when the key is no longer that of somebody who may; as long as nobody says so, it is."""
        while True:
            await asyncio.sleep(ASKED_AGAIN_S)
            with contextlib.suppress(FrontPageAwayError):
                if self._visitor and await self._front_page.owner_of(self._scope, self._shown) != self._visitor:
                    return

    async def _is_known(self, key: object) -> bool:
        """Whether the socket is that of somebody who may open it, by the key of its first message if need be."""
        if self._visitor:
            return True
        shown = shown_by(key)
        try:
            owner = await self._front_page.opener_of(self._scope, shown)
        except FrontPageAwayError:
            return False
        if owner is None or owner.role < self._needed:
            return False
        self._visitor, self._shown = owner, shown
        return True

    async def _permitted(self, message: Message) -> Message:
        assert self._visitor is not None  # noqa: S101 - Prefect closes a socket that nobody has opened
        try:
            (event,) = permitted("POST", _EVENTS, [_json(message)], self._visitor, None)
        except RequestRefusedError as error:
            await self._front_page.keep_refusal(self._scope, self._visitor, str(error))
            raise
        return {"type": "websocket.receive", "text": json.dumps(event)}


def _json(message: Message) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(message.get("text") or "")
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError("expected an event as JSON, found none") from error

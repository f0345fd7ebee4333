"""Visitors in front of Prefect: what their bodies may say, who started their runs, their sockets and their pages."""

import asyncio
import base64
import contextlib
import json
from typing import Any

import httpx
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.accounts.prefect_requests import Lookup, checks_body, lookup_of, permitted
from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import NAME_HEADER, ROLE_HEADER, SECRET_HEADER, SOCKET_HEADER, Visitor
from infra.prefect_sockets import auth_of
from infra.request_bodies import pass_on_changed
from infra.visitor_door import needed_role_behind, visitor_behind

PREFIX = "/prefect"
_FIRST_MESSAGE_S = 10.0  # within which a socket has to say who it is
# Of these the front page reads where a request comes from, and that it is a socket.
_OF_THE_HANDSHAKE = ("X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id", SOCKET_HEADER)


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
        self._check_address = check_address
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at what a visitor sends; pass anything else on as it is."""
        visitor = visitor_behind(scope)
        needed = needed_role_behind(scope)
        if scope["type"] == "websocket" and (visitor or needed):
            await self._app(scope, self._named(scope, receive, visitor, needed), send)
        elif visitor is None:
            await self._app(scope, receive, send)
        elif scope["path"].endswith("/ui-settings"):
            await self._show_settings(scope, receive, send)
        elif checks_body(scope["method"], scope["path"]):
            await self._check_body(scope, receive, send, visitor)
        else:
            await self._app(scope, receive, send)

    async def _check_body(self, scope: Scope, receive: Receive, send: Send, visitor: Visitor) -> None:
        method, path = scope["method"], scope["path"]

        async def change(body: Any) -> Any:  # noqa: ANN401 - JSON
            lookup = lookup_of(method, path, body, visitor)
            about = await self._read(lookup) if lookup else None
            return permitted(method, path, body, visitor, about)

        await pass_on_changed(self._app, scope, receive, send, change)

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

    def _named(self, scope: Scope, receive: Receive, visitor: Visitor | None, needed: UserRole | None) -> Receive:
        """The messages of a socket; the first, in which Prefect's clients give a password, has Prefect's own.

        A socket that came without a key gives it there: the front page says whose it is.
        """
        is_first = True

        async def named() -> Message:
            nonlocal is_first
            if not is_first:
                return await receive()
            message = await asyncio.wait_for(receive(), _FIRST_MESSAGE_S)
            if message["type"] == "websocket.connect":
                return message
            is_first = False
            asked = auth_of(message)
            if asked is None:
                return message
            known = visitor is not None or await self._may(scope, asked.get("token"), needed)
            return {
                "type": "websocket.receive",
                "text": json.dumps({**asked, "token": self._credential if known else ""}),
            }

        return named

    async def _may(self, scope: Scope, token: object, needed: UserRole | None) -> bool:
        """Whether the key in a first message is that of somebody who may do this."""
        if not isinstance(token, str) or not token or needed is None:
            return False
        headers = HTTPConnection(scope).headers
        asked = {
            SECRET_HEADER: self._secret,
            "Authorization": f"Basic {base64.b64encode(token.encode()).decode()}",
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Uri": f"{PREFIX}{scope['path']}",
            **{name: headers[name] for name in _OF_THE_HANDSHAKE if name in headers},
        }
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                answer = await client.get(self._check_address, headers=asked)
            return (
                answer.status_code == 204
                and UserRole.parse(answer.headers.get(ROLE_HEADER, "")) >= needed
                and bool(answer.headers.get(NAME_HEADER))
            )
        except (httpx.HTTPError, ValueError):
            return False

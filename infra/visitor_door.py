"""What comes through the front door enters a service by the visitor's role, in place of the service's own password.

Behind it the service is asked with its own credential, and sees neither the visitor's key nor the headers of the front
door. What comes another way passes on as it is: the service asks it for the password.
"""

import base64
from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.accounts.permissions import SOCKET, Part, locate, need_of
from infra.accounts.roles import UserRole
from infra.accounts.visitors import (
    NAME_HEADER,
    ROLE_HEADER,
    SECRET_HEADER,
    Visitor,
    came_through_the_front_door,
    visitor_of,
)
from infra.door import refusal_of
from tasks.log_lines import add_to_request

# In the scope of a connection, where no client can write.
_VISITOR = "studio.visitor"
_NEEDED = "studio.needed_role"
_SHOWN = "studio.shown"
_KEYS = ("Authorization", "Cookie")
_OF_THE_WAY_IN = {name.lower().encode() for name in (SECRET_HEADER, NAME_HEADER, ROLE_HEADER, *_KEYS)}


class VisitorDoor:
    """An ASGI application in front of another, for what comes through the front door.

    Args:
        app: What is behind it.
        part: Whose roles are asked for.
        credential: `user:password` of the service behind it.
        secret: That of the front door; empty: nothing comes through it.
        unnamed_sockets: Whether a WebSocket may name its visitor in a message, which the service then has to check.
    """

    def __init__(
        self, app: ASGIApp, *, part: Part, credential: str, secret: str, unnamed_sockets: bool = False
    ) -> None:
        self._app = app
        self._part = part
        self._secret = secret
        self._authorization = b"Basic " + base64.b64encode(credential.encode())
        self._unnamed_sockets = unnamed_sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what the visitor's role may not do, pass any other connection on."""
        is_connection = scope["type"] in {"http", "websocket"}
        if not is_connection or not came_through_the_front_door(HTTPConnection(scope), self._secret):
            await self._app(scope, receive, send)
            return
        visitor = visitor_of(HTTPConnection(scope), self._secret)
        is_socket = scope["type"] == "websocket"
        part, inner = locate(scope["path"])
        path = inner if part == self._part else scope["path"]
        need = need_of(self._part, SOCKET if is_socket else scope["method"], path)
        if visitor is None and is_socket and self._unnamed_sockets:
            await self._app({**scope, "headers": _without_the_way_in(scope), _NEEDED: need.role}, receive, send)
        elif is_socket and (visitor is None or not need.is_met_by(visitor.role)):
            await send({"type": "websocket.close", "code": 1008})
        elif visitor is None:
            await refusal_of("expected somebody who is signed in, found nobody: sign in", 401)(scope, receive, send)
        elif not need.is_met_by(visitor.role):
            message = (
                f"expected the role {need.role} for this, found {visitor.name}, who is {visitor.role}: ask an admin"
            )
            await refusal_of(message)(scope, receive, send)
        else:
            add_to_request(user=visitor.name)
            headers = [*_without_the_way_in(scope), (b"authorization", self._authorization)]
            given = HTTPConnection(scope).headers
            shown = {name: given[name] for name in _KEYS if name in given}
            await self._app({**scope, "headers": headers, _VISITOR: visitor, _SHOWN: shown}, receive, send)


def _without_the_way_in(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name.lower() not in _OF_THE_WAY_IN]


def visitor_behind(scope: Scope) -> Visitor | None:
    """Return the visitor that a visitor door has let in; None for who came another way."""
    visitor: Visitor | None = scope.get(_VISITOR)
    return visitor


def shown_behind(scope: Scope) -> Mapping[str, str]:
    """Return the headers by which the visitor of a socket was known; of other requests the front door keeps them."""
    shown: Mapping[str, str] = scope.get(_SHOWN, {})
    return shown


def needed_role_behind(scope: Scope) -> UserRole | None:
    """Return the role that a socket needs which has not yet said who it is; None for any other connection."""
    needed: UserRole | None = scope.get(_NEEDED)
    return needed

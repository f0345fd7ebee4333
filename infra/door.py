"""The door of every web service here: who is refused before the service reads anything.

Every page that a browser on this machine shows reaches a service on 127.0.0.1. A page of another site can send requests
to it without reading the answers, and one whose name is made to point to 127.0.0.1 (DNS rebinding) can read them, too.
Browsers say in headers where a request comes from; programs say nothing, and meet the service's password.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.stack_settings import HOST

OUR_NAMES = frozenset({HOST, "localhost"})
Rule = Callable[[HTTPConnection], JSONResponse | None]


class Door:
    """An ASGI application in front of another: lets a connection in unless one of the rules has an answer to it."""

    def __init__(self, app: ASGIApp, *further: Rule) -> None:
        self._app = app
        self._rules = (has_foreign_host, has_foreign_origin, *further)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused connection, hand any other on."""
        if scope["type"] in {"http", "websocket"}:
            connection = HTTPConnection(scope)
            for rule in self._rules:
                if (refusal := rule(connection)) is None:
                    continue
                if scope["type"] == "websocket":  # closed before it is accepted: the browser gets a 403
                    await send({"type": "websocket.close", "code": 1008})
                    return
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def has_foreign_host(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse what was sent to a name that is not ours, whatever address that name was made to point to."""
    names = connection.headers.getlist("host")
    if len(names) == 1 and _hostname(names[0]) in OUR_NAMES:
        return None
    return refusal_of(f"expected a request to {HOST} or localhost, found one to {names}: use one of those names")


def has_foreign_origin(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse what a page of another site sent; to follow a link from there is allowed, to embed us is not."""
    site, origins = connection.headers.get("sec-fetch-site"), connection.headers.getlist("origin")
    own = f"http://{connection.headers['host']}"
    if any(origin != own for origin in origins):
        return refusal_of("expected a request of this service's own page or of a program, found one of another site")
    if site in {None, "same-origin", "none"} or _follows_a_link(connection):
        return None
    return refusal_of("expected a request of this service's own page or of a program, found one of another site")


def _follows_a_link(connection: HTTPConnection) -> bool:
    headers = connection.headers
    opens_a_page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return connection.scope.get("method") in {"GET", "HEAD"} and opens_a_page


def refusal_of(message: str, status: int = 403, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer that says what was expected and what was found."""
    return JSONResponse({"error": message}, status, headers)


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None

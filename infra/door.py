"""The door of every web service here: it refuses connections before the service reads anything.

Every page that a browser on this machine shows reaches a service on 127.0.0.1. A page of another site can send requests
to it without reading the answers, and a page whose name points to 127.0.0.1 (DNS rebinding) can read them, too.
Browsers name the sender of a request in headers; programs do not, and need the service's password.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.loopback import our_names

Rule = Callable[[HTTPConnection], JSONResponse | None]


class Door:
    """An ASGI application in front of another, which gets the connections that no rule refuses."""

    def __init__(self, app: ASGIApp, *further: Rule) -> None:
        self._app = app
        self._rules = (has_foreign_host, has_foreign_origin, *further)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused connection, pass any other on."""
        rules = self._rules if scope["type"] in {"http", "websocket"} else ()
        refusal = next(filter(None, (rule(HTTPConnection(scope)) for rule in rules)), None)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # closed before it is accepted: the browser gets a 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)


def has_foreign_host(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse a request to a name that is not ours, whatever address that name points to."""
    names = connection.headers.getlist("host")
    ours = our_names()
    if len(names) == 1 and _hostname(names[0]) in ours:
        return None
    expected = " or ".join(sorted(ours))
    return refusal_of(f"expected a request to {expected}, found one to {names}: use one of those names")


def has_foreign_origin(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse a request of another site's page; a link from there may be followed, but we may not be embedded."""
    headers = connection.headers
    opens_a_page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    follows_a_link = connection.scope.get("method") in {"GET", "HEAD"} and opens_a_page
    is_own_site = headers.get("sec-fetch-site") in {None, "same-origin", "none"}
    if set(headers.getlist("origin")) <= {f"http://{headers['host']}"} and (is_own_site or follows_a_link):
        return None
    return refusal_of("expected a request of this service's own page or of a program, found one of another site")


def refusal_of(message: str, status: int = 403, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer with the message as JSON."""
    return JSONResponse({"error": message}, status, headers)


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None

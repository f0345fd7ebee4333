"""Whom the front page starts a run for: the visitor that came by the front door."""

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.accounts.starters import starter_of
from infra.accounts.visitors import visitor_of
from tasks.log_lines import add_to_request
from tasks.orchestration.starters import starting_for


class StartedByVisitor:
    """An ASGI application in front of another, whose runs are started for the visitor of the request."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on; who asks without the front door is the owner of the machine."""
        visitor = visitor_of(HTTPConnection(scope), self._secret) if scope["type"] == "http" else None
        if visitor:
            add_to_request(user=visitor.name)
        with starting_for(starter_of(visitor) if visitor else None):
            await self._app(scope, receive, send)

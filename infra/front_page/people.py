"""What the pages of accounts share: the database, who asks, and what the front door asks of each request.

Imported if there are accounts alone.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.accounts import cookies
from infra.accounts.attempts import Attempts
from infra.accounts.audit import forget_entries
from infra.accounts.database import Database
from infra.accounts.errors import DatabaseAwayError, TooManyAttemptsError
from infra.accounts.gate import Asked, Gate
from infra.accounts.oidc_client import Client
from infra.accounts.passwords import PATIENCE_S
from infra.accounts.sessions import forget_ended
from infra.accounts.sign_in import SignIn
from infra.accounts.visitors import (
    CHECK,
    NAME_HEADER,
    REFUSED_HEADER,
    ROLE_HEADER,
    SOCKET_HEADER,
    came_through_the_front_door,
    visitor_of,
)
from infra.front_page import account_list, audit_list, own_account, signing_in
from infra.front_page.askers import client_address
from infra.front_page.pages import show_studio_error

if TYPE_CHECKING:
    from infra.accounts.oidc import Provider

_TIDIED_EVERY_S = 3600.0
_HASHED_AT_ONCE = 4  # two are hashed, two have the next turn
_ANSWERED_AT_ONCE = 16  # questions of the front door: as many as there are connections to the database


class People:
    """The accounts of the people who come through the front door.

    `url` is the address of their database, `client` how an OIDC provider knows this page, if there is one, and
    `take_store_key` takes the key of the object store from an account, if it has one.
    """

    def __init__(self, url: str, client: Client | None, take_store_key: Callable[[str], object]) -> None:
        self.take_store_key = take_store_key
        self.database = Database(url, _write_line)
        self.sign_in = SignIn(self.database)
        self.gate = Gate(self.database)
        self.errors = {TooManyAttemptsError: show_too_many}
        self.provider = _provider(client) if client else None
        self.provider_attempts = Attempts(20, 5 * 60.0)
        self._room = asyncio.Semaphore(_HASHED_AT_ONCE)
        self.routes = [*signing_in.ROUTES, *own_account.ROUTES, *account_list.ROUTES, *audit_list.ROUTES]

    async def run_hashing(self, work: Callable[[], Response]) -> Response:
        """Run in a thread what compares a password.

        A few at one time: a flood of them leaves the threads to those who have signed in.

        Raises:
            TooManyAttemptsError: Too many are under way.
        """
        try:
            await asyncio.wait_for(self._room.acquire(), PATIENCE_S)
        except TimeoutError as error:
            raise TooManyAttemptsError(PATIENCE_S) from error
        try:
            return await run_in_threadpool(work)
        finally:
            self._room.release()

    def middleware(self, secret: str) -> list[Middleware]:
        """Return what stands before the door: the answers to the front door, whose secret is given."""
        return [Middleware(FrontDoorAnswers, gate=self.gate, secret=secret)]

    @contextlib.asynccontextmanager
    async def tidied(self, audit_days: int) -> AsyncIterator[None]:
        """Remove what has ended and what is older than the audit log is kept, at once and then every hour."""
        task = asyncio.create_task(self._tidy(audit_days))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.database.close()

    async def _tidy(self, audit_days: int) -> None:
        while True:
            try:
                await run_in_threadpool(forget_ended, self.database)
                await run_in_threadpool(forget_entries, self.database, audit_days)
            except DatabaseAwayError as error:
                _write_line(str(error))
            await asyncio.sleep(_TIDIED_EVERY_S)


class FrontDoorAnswers:
    """An ASGI application in front of the page: answers what the front door asks, passes any other request on.

    It stands before the door of the page, because the headers are those of the request that is asked about.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate, secret: str) -> None:
        self._app, self._gate, self._secret = app, gate, secret
        self._threads = CapacityLimiter(_ANSWERED_AT_ONCE)  # their own: no page, however slow, closes the front door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer who sent a request, and whether it may pass."""
        is_question = scope["type"] == "http" and scope["path"] == CHECK
        if not is_question or not came_through_the_front_door(HTTPConnection(scope), self._secret):
            await self._app(scope, receive, send)
            return
        answer = await to_thread.run_sync(self._answer, HTTPConnection(scope), limiter=self._threads)
        await answer(scope, receive, send)

    def _answer(self, connection: HTTPConnection) -> Response:
        refused = connection.headers.get(REFUSED_HEADER)
        try:
            if refused is not None:
                return self._keep_refusal(connection, unquote(refused))
            answer = self._gate.answer(asked_of(connection))
        except DatabaseAwayError as error:
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": "5"})
        if answer.status != 204:
            headers = {**answer.headers, "Cache-Control": "no-store"}
            return JSONResponse({"error": answer.message}, answer.status, headers)
        visitor = answer.visitor
        known = {NAME_HEADER: visitor.name, ROLE_HEADER: str(visitor.role)} if visitor else {}
        return Response(status_code=204, headers=known)

    def _keep_refusal(self, connection: HTTPConnection, reason: str) -> Response:
        """Keep what a service tells; never an answer that would let a request pass."""
        if visitor := visitor_of(connection, self._secret):
            self._gate.keep_refusal(asked_of(connection), visitor, reason)
        return JSONResponse({"error": reason}, 403)


def asked_of(connection: HTTPConnection) -> Asked:
    """Return the request that the front door asks about, from the headers that it has set or passed on."""
    headers = connection.headers
    method = headers.get("x-forwarded-method", "")
    return Asked(
        method=method,
        uri=headers.get("x-forwarded-uri", ""),
        host=headers.get("x-forwarded-host", ""),
        address=client_address(connection),
        request_id=headers.get("x-request-id", ""),
        session_key=connection.cookies.get(cookies.SESSION, ""),
        authorization=headers.getlist("authorization"),
        origins=headers.getlist("origin"),
        site=headers.get("sec-fetch-site", ""),
        mode=headers.get("sec-fetch-mode", ""),
        destination=headers.get("sec-fetch-dest", ""),
        accept=headers.get("accept", ""),
        is_socket=method == "GET" and SOCKET_HEADER in headers,
        htmx_page=headers.get("hx-current-url", "") if "hx-request" in headers else None,
    )


async def show_too_many(request: Request, error: Exception) -> Response:
    """Answer when the next attempt may be made."""
    assert isinstance(error, TooManyAttemptsError)  # noqa: S101 - registered for this kind
    answer = await show_studio_error(request, error)
    answer.status_code = 429
    answer.headers["Retry-After"] = str(error.wait_s)
    return answer


def _provider(client: Client) -> "Provider":
    """The provider; without one, what checks its tokens is not imported."""
    from infra.accounts.oidc import Provider

    return Provider(client)


def _write_line(line: str) -> None:
    """Write a line into the log of the front page, whole."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

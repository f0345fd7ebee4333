"""One log line a request: who asked, for what, and what the answer was. No query and no header but names and ids."""

import base64
import binascii
import logging
import re
import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.log_lines import REQUEST_ID_HEADER, RUN_HEADER, begin_request, is_run_id

LOGGER = logging.getLogger(__name__)
SLOW_MS = 1000
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH = 500
_LONGEST_NAME = 100
_CLIENT_LEFT = 499
_OPENED = 101


class RequestLog:
    """An ASGI application in front of another, which answers each request with its id and logs it.

    A client may name the request in `X-Request-Id`, and the flow run that asks in `X-Studio-Flow-Run`. With
    `only_unusual`, for a service that is asked all the time, requests are logged that name one of them, fail, take
    longer than a second, or are refused, but for reading what is not there. Where a path `is_open`, nobody has checked
    who asks: neither the name that a request signs in with nor a run is logged.

    An error that is raised after its answer is in the line, and is not raised on: uvicorn would close the connection,
    without having said so, and the front door loses the request that it has just sent over it for somebody else.
    """

    def __init__(
        self, app: ASGIApp, *, only_unusual: bool = False, is_open: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._app = app
        self._only_unusual = only_unusual
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the connection on, and log it when it is over."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_open = self._is_open(scope["path"])
        fields = _ids(headers, "" if is_open else headers.get(RUN_HEADER, ""))
        named = (REQUEST_ID_HEADER.lower().encode(), fields["request_id"].encode())
        known: dict[str, object] = {**fields}
        begin_request(known)
        began = time.perf_counter()
        status = _CLIENT_LEFT
        is_answered = False
        error: Exception | None = None

        async def answer(message: Message) -> None:
            nonlocal status, is_answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), named]}
            elif message["type"] == "websocket.accept":
                status = _OPENED
            elif message["type"] == "websocket.close" and status != _OPENED:
                status = 403
            await send(message)
            is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, answer)
        except Exception as raised:
            status = 500
            if not is_answered:
                raise
            error = raised
        finally:
            ms = round(1000 * (time.perf_counter() - began), 1)
            is_named = "flow_run_id" in fields or headers.get(REQUEST_ID_HEADER) == fields["request_id"]
            level = _level(scope, headers, status)
            is_slow = ms > SLOW_MS and status != _OPENED
            if is_named or not self._only_unusual or is_slow or level > logging.INFO:
                user = "" if status == 401 or is_open else _user(headers)
                named_user = {"user": user} if user else {}
                _log(level, scope, {**named_user, **known, "status": status, "ms": ms}, error)


def _level(scope: Scope, headers: Headers, status: int) -> int:
    """An error for what failed, a warning for what was refused.

    But not for reading what is not there, and not for a browser that asks without a password before it asks the person.
    """
    if status >= 500:
        return logging.ERROR
    reads = scope.get("method") in {"GET", "HEAD"} and status not in {401, 403}
    is_first = status == 401 and "authorization" not in headers
    is_fine = status < 400 or status == _CLIENT_LEFT or reads or is_first
    return logging.INFO if is_fine else logging.WARNING


def _ids(headers: Headers, run: str) -> dict[str, str]:
    given = headers.get(REQUEST_ID_HEADER, "")
    fields = {"request_id": given if _ID.fullmatch(given) else uuid4().hex}
    return fields | ({"flow_run_id": run} if is_run_id(run) else {})


def _log(level: int, scope: Scope, known: Mapping[str, object], error: Exception | None) -> None:
    method, path, status, ms = scope.get("method", "WEBSOCKET"), scope["path"], known["status"], known["ms"]
    fields = {**known, "method": method, "path": path[:_LONGEST_PATH]}
    shown = method, path[:_LONGEST_PATH], status, ms
    LOGGER.log(level, "%s %s %d %.0f ms", *shown, extra={"fields": fields}, exc_info=error)


def _user(headers: Headers) -> str:
    """The name that a request signs in with."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[0].decode()[:_LONGEST_NAME]
    except (binascii.Error, ValueError):
        return ""

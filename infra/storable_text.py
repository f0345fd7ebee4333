"""Text that PostgreSQL cannot keep: the character NUL, and a surrogate without the other half of its pair.

JSON can hold both. Prefect and MLflow fail when they write them, and answer 5xx: their clients then try again for
minutes, and of events a whole batch is lost. So a body is checked piece by piece, while the service reads it.
"""

import re
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.door import refusal_of

UNPROCESSABLE = 422
_HEX = rb"[0-9a-fA-F]{2}"
_HIGH = rb"\\u[dD][89abAB]" + _HEX
_LOW = rb"\\u[dD][c-fC-F]" + _HEX
_UTF8_SURROGATE = rb"\xed[\xa0-\xbf][\x80-\xbf]"  # Python's own reader of JSON takes them
# JSON has a backslash in strings alone, and the next character belongs to it: `\\u0000` is six characters, and no NUL.
_OTHER_ESCAPE = rb"\\[^u\0\xed]|\\u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4}"
_GOOD = re.compile(rb"(?:[^\\\0\xed]++|" + _OTHER_ESCAPE + rb"|" + _HIGH + _LOW + rb"|\xed(?=[\x80-\x9f]))*+")
_LONE_HIGH = _HIGH + rb"(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])"
_BAD = re.compile(b"|".join([rb"\0", rb"\\u0000", _LOW, _LONE_HIGH, _UTF8_SURROGATE]))
_LONGEST = len(rb"\ud83d\ude00")
_REPLACEMENTS = {1: b"\0", 3: "\ufffd".encode(), 6: rb"\ufffd"}  # of the same length; a bare NUL is no JSON anyway


class Reader:
    """Reads JSON in pieces, with U+FFFD in place of what cannot be kept; `found` is the first of it."""

    def __init__(self) -> None:
        self.found: bytes | None = None
        self._held = b""

    def read(self, piece: bytes, *, is_last: bool) -> bytes:
        """Return the next piece, but for an escape that may go on in the piece after it."""
        text = self._held + piece
        done = bytearray()
        at = 0
        while True:
            end = _GOOD.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
            done += text[at:end]
            bad = _BAD.match(text, end)
            if bad is None:
                break
            self.found = self.found or bad[0]
            done += _REPLACEMENTS[len(bad[0])]
            at = bad.end()
        rest = text[end:]
        # A rest that is neither good nor bad nor short is no JSON: the service says so.
        self._held = b"" if is_last or len(rest) >= _LONGEST else rest
        return bytes(done) if self._held else bytes(done + rest)


def to_storable(text: str) -> str:
    """Return JSON with U+FFFD in place of what cannot be kept."""
    return Reader().read(text.encode("utf-8", "surrogatepass"), is_last=True).decode()


def in_the_address(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse a path or a query with a NUL: both are looked up in the database."""
    query: bytes = connection.scope["query_string"]
    return _refusal(b"\0") if "\0" in connection.scope["path"] or b"%00" in query or b"\0" in query else None


class StorableText:
    """An ASGI application in front of another, which never gets text that its database cannot keep.

    A body with such text is refused. If nobody reads the answer (messages of a WebSocket, paths that begin with one of
    `mended`), each such character becomes U+FFFD instead, and the rest is kept. Bodies of paths that `is_file` accepts
    are not checked. `status` gives the status of a refusal by the path.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        mended: tuple[str, ...] = (),
        is_file: Callable[[str], object] = lambda _: False,
        status: Callable[[str], int] = lambda _: UNPROCESSABLE,
    ) -> None:
        self._app = app
        self._mended = mended
        self._is_file = is_file
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, and check the text that is sent over it."""
        if scope["type"] == "websocket":
            await self._app(scope, _mending_messages(receive), send)
        elif scope["type"] == "http" and not self._is_file(scope["path"]):
            await self._read(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = Reader()
        mends = scope["path"].startswith(self._mended or "\0")
        answered = False

        def is_refused() -> bool:
            return reader.found is not None and not mends and not answered

        async def reading() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                body = reader.read(message.get("body", b""), is_last=not message.get("more_body", False))
                if is_refused():
                    raise _CannotBeKeptError
                message = {**message, "body": body}
            return message

        async def sending(message: Message) -> None:
            nonlocal answered
            if not is_refused():  # the service may answer to a body that it could not read to its end
                answered = True
                await send(message)

        try:
            await self._app(scope, reading, sending)
        except Exception:
            if not is_refused():
                raise
        if is_refused():
            await _refusal(reader.found, self._status(scope["path"]))(scope, receive, send)


class _CannotBeKeptError(Exception):
    """Ends the reading of a body."""


def _mending_messages(receive: Receive) -> Receive:
    async def mending() -> Message:
        message = await receive()
        if message.get("text"):
            message = {**message, "text": to_storable(message["text"])}
        return message

    return mending


def _refusal(bad: bytes | None, status: int = UNPROCESSABLE) -> JSONResponse:
    is_nul = bad in {b"\0", rb"\u0000"}
    name = "the character NUL (\\u0000)" if is_nul else "half of a surrogate pair (\\ud800-\\udfff)"
    return refusal_of(f"expected text that a database can keep, found {name}: leave it out", status)

"""JSON bodies that a door changes before the service reads them."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.accounts.refused import RequestRefusedError
from infra.door import refusal_of

_LONGEST = 4 << 20  # bytes; Prefect itself takes parameters of 512 KiB
_REWRITTEN = {b"content-length", b"content-encoding", b"transfer-encoding"}
Change = Callable[[Any], Awaitable[Any]]
Keep = Callable[[str], Awaitable[None]]


async def pass_on_changed(app: ASGIApp, scope: Scope, receive: Receive, send: Send, change: Change, keep: Keep) -> None:
    """Send the body to the application as `change` returns it, who gets None for an empty one.

    Its RequestRefusedError is answered with the status that it has. `keep` gets the reason of each refusal first.
    """
    try:
        text = await _changed(receive, change)
    except RequestRefusedError as error:
        await keep(str(error))
        await refusal_of(str(error), error.status)(scope, receive, send)
        return
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _REWRITTEN]
    headers.append((b"content-length", str(len(text)).encode()))
    await app({**scope, "headers": headers}, _replay(text, receive), send)


async def _changed(receive: Receive, change: Change) -> bytes:
    body = await _read(receive)
    try:
        return json.dumps(await change(json.loads(body) if body else None)).encode()
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError("expected JSON, found none", 422) from error


async def _read(receive: Receive) -> bytes:
    """The whole body."""
    body = bytearray()
    while True:
        message = await receive()
        body.extend(message.get("body", b""))
        if len(body) > _LONGEST:
            raise RequestRefusedError(f"expected a body of at most {_LONGEST >> 20} MiB, found a larger one", 413)
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed

"""The body of a request, which may be of any length and never end."""

from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request


def content_length(request: Request) -> int | None:
    """Return how long the body is, in bytes, as the client says it; None if it says nothing."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the whole body; None, without reading on, if it has more than `limit` bytes."""
    length = content_length(request)
    if length is not None and length > limit:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            return None
    return bytes(body)


async def read_form(request: Request, limit: int) -> dict[str, list[str]]:
    """Return the fields of a form, also those that are empty.

    Raises:
        HTTPException: It has more than `limit` bytes.
    """
    body = await read_body(request, limit)
    if body is None:
        raise HTTPException(413, f"Expected a form of at most {limit} bytes, found a longer one. Shorten it.")
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)

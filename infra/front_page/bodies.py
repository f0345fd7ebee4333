"""The body of a request, which may be of any length and never end."""

from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the whole body; None, without reading on, if it has more than `limit` bytes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            return None
    return bytes(body)

"""How Prefect's clients say their password in a WebSocket: in its first message."""

import json
from typing import Any

from starlette.types import Message


def auth_of(message: Message) -> dict[str, Any] | None:
    """Return the message in which a client says its password, as `token`; None if it is another."""
    try:
        said = json.loads(message.get("text") or message.get("bytes") or b"")
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.get("type") == "auth" else None

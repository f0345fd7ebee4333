"""The password of a service while keys are rotated: the former one is as good as the new one."""

import base64
import hmac
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.command_errors import StackError
from infra.prefect_sockets import auth_of
from infra.rotation.state import read
from infra.stack_settings import USER, StackSettings

_HEADER = b"authorization"


class RotatedPassword:
    """An ASGI application in front of another, which gets its own password in the place of each that is as good.

    Args:
        app: What is behind it.
        settings: Of the stack, whose state folder says whether keys are rotated.
        name: Of the password among the secrets.
        password: That of the application.
    """

    def __init__(self, app: ASGIApp, *, settings: StackSettings, name: str, password: str) -> None:
        self._app = app
        self._settings = settings
        self._name = name
        self._own_token = f"{USER}:{password}"
        self._own = _basic(self._own_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        if scope["type"] == "websocket":
            receive = self._with_own_password(receive)
        if scope["type"] in {"http", "websocket"}:
            given = [value for name, value in scope["headers"] if name == _HEADER]
            if len(given) == 1 and given[0] != self._own and self._is_as_good(given[0]):
                others = [(name, value) for name, value in scope["headers"] if name != _HEADER]
                scope = {**scope, "headers": [*others, (_HEADER, self._own)]}
        await self._app(scope, receive, send)

    def _with_own_password(self, receive: Receive) -> Receive:
        """The messages of a socket; in the first of theirs, clients of Prefect say the password."""
        is_first = True

        async def received() -> Message:
            nonlocal is_first
            message = await receive()
            if message["type"] != "websocket.receive" or not is_first:
                return message
            is_first = False
            asked = auth_of(message)
            if asked is None or not self._is_as_good(_basic(str(asked.get("token", "")))):
                return message
            return {"type": "websocket.receive", "text": json.dumps({**asked, "token": self._own_token})}

        return received

    def _is_as_good(self, given: bytes) -> bool:
        try:
            rotation = read(self._settings.state_dir)
        except (StackError, OSError):  # then nothing is as good
            return False
        if rotation is None or rotation.is_ending:
            return False
        known = [
            _basic(f"{USER}:{values[self._name]}") for values in (rotation.former, rotation.new) if self._name in values
        ]
        return any(hmac.compare_digest(given, each) for each in known)


def _basic(credential: str) -> bytes:
    return b"Basic " + base64.b64encode(credential.encode())

"""What the door of a service asks the front page: whose a key is; and what it tells it: that a request was refused."""

import base64
import contextlib
from collections.abc import Collection, Mapping
from urllib.parse import quote

import httpx
from starlette.requests import HTTPConnection
from starlette.types import Scope

from infra.accounts.roles import UserRole
from infra.accounts.visitors import (
    CHECK,
    NAME_HEADER,
    REFUSED_HEADER,
    ROLE_HEADER,
    SECRET_HEADER,
    SOCKET_HEADER,
    Visitor,
)
from infra.stack_settings import StackSettings
from tasks.errors import StudioError

_TIMEOUT_S = 5
_LONGEST = 500  # characters of a reason, as the audit log keeps them
# Of these the front page reads where a request comes from.
_OF_THE_REQUEST = ("X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id")
_FOR_ALL = "/api/health"  # who may see it has an account, and the audit log has no line of it


def check_address(settings: StackSettings) -> str:
    """Return where the front page answers the front door, and the doors of services."""
    return f"http://{settings.host_of('studio')}:{settings.live_port}{CHECK}"


def shown_by(key: object) -> dict[str, str]:
    """Return a key (`name:token`) of a message as a header; nothing if it is none."""
    if not isinstance(key, str) or not key:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}


class FrontPageAwayError(StudioError):
    """The front page does not answer, or not yet."""


class FrontPage:
    """The front page, as the door of a service behind the front door asks it.

    Args:
        address: Where it answers the front door.
        secret: That of the front door.
        prefix: Of the service, in the addresses of the front door.
    """

    def __init__(self, address: str, *, secret: str, prefix: str) -> None:
        self._address = address
        self._secret = secret
        self._prefix = prefix

    async def opener_of(self, scope: Scope, shown: Mapping[str, str]) -> Visitor | None:
        """Return who shows these headers, if they may open this WebSocket; the audit log has what may act.

        Raises:
            FrontPageAwayError: It does not answer.
        """
        return await self._owner_of(scope, shown, scope["path"], (*_OF_THE_REQUEST, SOCKET_HEADER))

    async def owner_of(self, scope: Scope, shown: Mapping[str, str]) -> Visitor | None:
        """Return who shows these headers, with a token or a session; None: nobody now, or the account is shut.

        Raises:
            FrontPageAwayError: It does not answer.
        """
        return await self._owner_of(scope, shown, _FOR_ALL, _OF_THE_REQUEST)

    async def keep_refusal(self, scope: Scope, visitor: Visitor, reason: str) -> None:
        """Have the audit log say that a request of a visitor was refused, or a message of a WebSocket.

        It does not if the front page does not answer: that it is refused holds without.
        """
        told = {
            NAME_HEADER: visitor.name,
            ROLE_HEADER: str(visitor.role),
            REFUSED_HEADER: quote(reason[:_LONGEST], errors="replace"),
        }
        with contextlib.suppress(FrontPageAwayError):
            await self._ask(scope, scope["path"], (*_OF_THE_REQUEST, SOCKET_HEADER), told)

    async def _owner_of(
        self, scope: Scope, shown: Mapping[str, str], path: str, passed_on: Collection[str]
    ) -> Visitor | None:
        if not shown:
            return None
        answer = await self._ask(scope, path, passed_on, shown)
        if answer.is_server_error:
            raise FrontPageAwayError(f"expected that the front page says whose a key is, found {answer.status_code}")
        name, role = (answer.headers.get(header, "") for header in (NAME_HEADER, ROLE_HEADER))
        return Visitor(name=name, role=UserRole.parse(role)) if answer.status_code == 204 and name else None

    async def _ask(
        self, scope: Scope, path: str, passed_on: Collection[str], headers: Mapping[str, str]
    ) -> httpx.Response:
        given = HTTPConnection(scope).headers
        asked = {
            SECRET_HEADER: self._secret,
            "X-Forwarded-Method": scope.get("method", "GET"),
            "X-Forwarded-Uri": self._prefix + quote(path),
            **{name: given[name] for name in passed_on if name in given},
            **headers,
        }
        try:
            # Nothing here is asked over TLS, whose certificates would take 20 ms to read for each question.
            async with httpx.AsyncClient(verify=False, timeout=_TIMEOUT_S, trust_env=False) as client:  # noqa: S501
                return await client.get(self._address, headers=asked)
        except httpx.HTTPError as error:
            raise FrontPageAwayError(f"expected an answer of the front page, found {error!r}") from error

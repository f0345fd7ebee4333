"""The person behind a request that came through the front door.

The front door (Caddy) asks the front page who a request is from, and writes the answer into headers, with a secret that
services and front door share. Without the secret the headers say nothing: whoever asks a service directly shows its
password.
"""

import hmac
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from infra.accounts.roles import UserRole

SECRET_HEADER = "X-Studio-Door"  # noqa: S105 - the name of a header
NAME_HEADER = "X-Studio-User"
ROLE_HEADER = "X-Studio-Role"
SOCKET_HEADER = "X-Studio-Socket"  # of a request that opens a WebSocket; only the front door writes it
REFUSED_HEADER = "X-Studio-Refused"  # why a service has refused what the front door let in; it tells where that asks
CHECK = "/auth/check"  # where the front door asks


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A person who has signed in, or a program with a token of theirs."""

    name: str
    role: UserRole


def came_through_the_front_door(connection: HTTPConnection, secret: str) -> bool:
    """Return whether a request has the secret of the front door; no secret is not one."""
    given = connection.headers.getlist(SECRET_HEADER)
    return bool(secret) and len(given) == 1 and hmac.compare_digest(given[0].encode(), secret.encode())


def visitor_of(connection: HTTPConnection, secret: str) -> Visitor | None:
    """Return who sent a request through the front door; None if it came another way, or names nobody."""
    names, roles = (connection.headers.getlist(header) for header in (NAME_HEADER, ROLE_HEADER))
    if not came_through_the_front_door(connection, secret) or len(names) != 1 or len(roles) != 1 or not names[0]:
        return None
    try:
        return Visitor(name=names[0], role=UserRole.parse(roles[0]))
    except ValueError:
        return None

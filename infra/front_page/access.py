"""Who may use the front page: its password opens it, and a token of its own pages goes with everything that acts.

HTTP Basic and no cookie: a browser sends cookies of 127.0.0.1 to every port, also to those of other users' programs.
What comes through the front door, from a host name of its own, has a person's name and role in place of the password,
and a token that belongs to the session of that person.
"""

import base64
import binascii
import hmac

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from infra.accounts import cookies
from infra.accounts.names import OWNER
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor, came_through_the_front_door, visitor_of
from infra.door import Rule, refusal_of
from infra.stack_settings import USER

TOKEN_HEADER = "X-Studio-Token"  # noqa: S105 - the name of a header
_OPEN = frozenset({"/live", "/models", "/s3-events", "/metrics", "/favicon.ico"})
_OPEN_FOLDERS = ("/static/", "/predict/")
_READING = frozenset({"GET", "HEAD"})
_OF_THE_DOOR = "/sign-in"  # with all below it: for strangers, but only through the front door


def token(password: str) -> str:
    """Return what our pages send with every request that acts: no page of another site can read it.

    For who came through the front door, the key of the session takes the place of the password.
    """
    return hmac.new(password.encode(), b"token of the front page", "sha256").hexdigest()


def person_of(connection: HTTPConnection, secret: str) -> Visitor | None:
    """Return who looks at a page that the door let through: with the password the owner; None if nobody is known."""
    if came_through_the_front_door(connection, secret):
        return visitor_of(connection, secret)
    return None if is_open(connection.scope["path"]) else Visitor(name=OWNER, role=UserRole.ADMIN)


def page_token(connection: HTTPConnection, password: str, secret: str) -> str:
    """Return the token for the pages of who looks at one; empty for strangers."""
    if came_through_the_front_door(connection, secret):
        key = connection.cookies.get(cookies.SESSION)
        return token(key) if key else ""
    return "" if is_open(connection.scope["path"]) else token(password)


def password_rule(password: str, secret: str = "") -> Rule:
    """Return the rule that asks for the password, on all but the live page and what programs send there.

    What has the secret of the front door needs a visitor instead, on all but the pages to sign in.
    """

    def refuse(connection: HTTPConnection) -> JSONResponse | None:
        if came_through_the_front_door(connection, secret):
            if visitor_of(connection, secret) or _is_for_strangers(connection.scope["path"]):
                return None
            return refusal_of("expected somebody who has signed in, found nobody: sign in on /sign-in", 401)
        given = given_password(connection)
        if is_open(connection.scope["path"]) or (given is not None and hmac.compare_digest(given, password.encode())):
            return None
        message = f"expected user {USER} and STUDIO_PASSWORD of .studio/env, found {'others' if given else 'none'}"
        return refusal_of(message, 401, {"WWW-Authenticate": 'Basic realm="YOLO Studio", charset="UTF-8"'})

    return refuse


def token_rule(password: str, secret: str = "") -> Rule:
    """Return the rule that refuses what acts without the token of our own pages.

    Programs that came through the front door show a token of an account, which no browser sends by itself.
    """

    def refuse(connection: HTTPConnection) -> JSONResponse | None:
        path = connection.scope["path"]
        if came_through_the_front_door(connection, secret):
            needs_none = _is_for_strangers(path) or "authorization" in connection.headers
        else:
            needs_none = is_open(path)
        given, expected = connection.headers.get(TOKEN_HEADER, ""), page_token(connection, password, secret)
        is_right = bool(expected) and hmac.compare_digest(given.encode(), expected.encode())
        if connection.scope.get("method") in _READING or needs_none or is_right:
            return None
        return refusal_of(f"expected header {TOKEN_HEADER} of a page of this address, found another: reload the page")

    return refuse


def _is_for_strangers(path: str) -> bool:
    return path == "/favicon.ico" or path.startswith("/static/") or f"{path}/".startswith(f"{_OF_THE_DOOR}/")


def is_open(path: str) -> bool:
    """Return whether a path needs no password."""
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def is_for_anybody(path: str) -> bool:
    """Return whether a path needs nobody's key: neither the password nor, through the front door, a visitor's."""
    return is_open(path) or _is_for_strangers(path)


def given_password(connection: HTTPConnection) -> bytes | None:
    """Return the password of our user; None if there is none, or another user's."""
    scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if scheme.lower() == "basic" and name == USER.encode() else None

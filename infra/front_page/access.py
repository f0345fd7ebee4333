"""Who may use the front page: its password opens it, and a token of its own pages goes with everything that acts.

HTTP Basic and no cookie: a browser sends cookies of 127.0.0.1 to every port, also to those of other users' programs.
"""

import base64
import binascii
import hmac

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from infra.door import Rule, refusal_of
from infra.stack_settings import USER

TOKEN_HEADER = "X-Studio-Token"  # noqa: S105 - the name of a header
_OPEN = frozenset({"/live", "/models", "/s3-events", "/metrics", "/favicon.ico"})
_OPEN_FOLDERS = ("/static/", "/predict/")
_READING = frozenset({"GET", "HEAD"})


def token(password: str) -> str:
    """Return what our pages send with every request that acts: no page of another site can read it."""
    return hmac.new(password.encode(), b"token of the front page", "sha256").hexdigest()


def password_rule(password: str) -> Rule:
    """Return the rule that asks for the password, on all but the live page and what programs send there."""

    def refuse(connection: HTTPConnection) -> JSONResponse | None:
        given = given_password(connection)
        if is_open(connection.scope["path"]) or (given is not None and hmac.compare_digest(given, password.encode())):
            return None
        message = f"expected user {USER} and STUDIO_PASSWORD of .studio/env, found {'others' if given else 'none'}"
        return refusal_of(message, 401, {"WWW-Authenticate": 'Basic realm="YOLO Studio", charset="UTF-8"'})

    return refuse


def token_rule(password: str) -> Rule:
    """Return the rule that refuses what acts without the token of our own pages."""
    expected = token(password).encode()

    def refuse(connection: HTTPConnection) -> JSONResponse | None:
        given = connection.headers.get(TOKEN_HEADER, "").encode()
        reads = connection.scope.get("method") in _READING
        if reads or is_open(connection.scope["path"]) or hmac.compare_digest(given, expected):
            return None
        return refusal_of(f"expected header {TOKEN_HEADER} of a page of this address, found another: reload the page")

    return refuse


def is_open(path: str) -> bool:
    """Return whether a path needs no password."""
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def given_password(connection: HTTPConnection) -> bytes | None:
    """Return the password of our user; None if there is none, or another user's."""
    scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if scheme.lower() == "basic" and name == USER.encode() else None

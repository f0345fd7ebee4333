"""What the front door is told of each request: who sends it, and whether they may.

The front door asks before it passes a request on. Whatever is not plainly allowed is refused, and what acts is in the
audit log before it happens: if that cannot be kept, it does not happen.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from infra.accounts.attempts import Attempts, network_of
from infra.accounts.audit import Actor, AuditEntry, record_alone
from infra.accounts.database import Database
from infra.accounts.permissions import SOCKET, Part, locate, need_of
from infra.accounts.random_keys import TOKEN_PREFIX
from infra.accounts.roles import UserRole
from infra.accounts.sessions import find_session
from infra.accounts.sign_in import UNKNOWN
from infra.accounts.tokens import find_token
from infra.accounts.visitors import CHECK, Visitor

SIGN_IN = "/sign-in"
_OWN_ACCOUNT = ("/account", "/sign-out")
_PEOPLE_ALONE = ("/account", "/accounts")  # no program makes itself another token
_OPEN = frozenset({SIGN_IN, "/sign-in/oidc", "/sign-in/oidc/callback", "/favicon.ico"})
_OPEN_FOLDER = "/static/"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came to the front door; `uri` is path and query as they were sent.

    Headers that were not sent are empty. `authorization` has each header of that name, `origins` each Origin.
    """

    method: str
    uri: str
    host: str
    address: str = ""
    request_id: str = ""
    session_key: str = ""
    authorization: Sequence[str] = ()
    origins: Sequence[str] = ()
    site: str = ""
    mode: str = ""
    destination: str = ""
    accept: str = ""
    is_socket: bool = False  # a GET that opens a WebSocket, as the front door saw it
    htmx_page: str | None = None  # the address of the page that a part was asked for, if htmx asks

    @property
    def path(self) -> str:
        """The path as the services see it: decoded once."""
        return unquote(self.uri.partition("?")[0])

    @property
    def opens_a_page(self) -> bool:
        """Whether a person would see the answer as a page of its own."""
        is_navigation = self.mode == "navigate" or (not self.mode and "text/html" in self.accept)
        return self.method in {"GET", "HEAD"} and not self.is_socket and is_navigation and not self.authorization

    @property
    def is_of_another_site(self) -> bool:
        """Whether a page of another site sent it; a link from there may be followed, but we may not be embedded."""
        follows_a_link = self.opens_a_page and self.destination == "document"
        is_own_site = self.site in {"", "same-origin", "none"}
        return not (set(self.origins) <= {f"https://{self.host}"} and (is_own_site or follows_a_link))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the front door is told: 204 lets the request in, as `visitor` if it is anybody's."""

    status: int
    visitor: Visitor | None = None
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


_FOREIGN = Answer(
    status=403,
    message="Expected a request of a page of this address or of a program, found one of another site's page.",
)


@dataclass(frozen=True, kw_only=True)
class _Identity:
    visitor: Visitor
    is_program: bool = False
    is_provisional: bool = False


class Gate:
    """Answers the front door."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failed_tokens = Attempts(30, 5 * 60.0)

    def answer(self, asked: Asked) -> Answer:
        """Return whether a request may pass, and for whom.

        Raises:
            DatabaseAwayError: Nobody can be known, or what acts cannot be kept in the audit log: nothing may pass.
        """
        path = asked.path
        if not path.startswith("/") or set(path.split("/")) & {".", ".."} or _CONTROL.search(path):
            message = "Expected a path without the parts . and .. and without control characters, found another."
            return Answer(status=400, message=message)
        if path == CHECK:
            return Answer(status=404, message="Expected another address: this one is for the front door alone.")
        if path in _OPEN or path.startswith(_OPEN_FOLDER):
            return _FOREIGN if asked.is_of_another_site else Answer(status=204)
        identity = self._identify(asked)
        if isinstance(identity, Answer):
            return identity
        if asked.is_of_another_site:
            self._record(asked, self._actor(identity.visitor), "foreign-page", allowed=False)
            return _FOREIGN
        return self._by_role(asked, identity)

    def keep_refusal(self, asked: Asked, visitor: Visitor, reason: str) -> None:
        """Keep in the audit log that a service has refused what the front door let in.

        Raises:
            DatabaseAwayError: It is not kept.
        """
        self._record(asked, self._actor(visitor), "request", allowed=False, detail=reason)

    def _identify(self, asked: Asked) -> _Identity | Answer:
        if asked.authorization:
            return self._of_a_program(asked)
        session = find_session(self._database, asked.session_key) if asked.session_key else None
        if session is None:
            return _sign_in_first(asked)
        visitor = Visitor(name=session.name, role=session.role)
        return _Identity(visitor=visitor, is_provisional=session.is_provisional)

    def _of_a_program(self, asked: Asked) -> _Identity | Answer:
        name, key = credentials_of(asked.authorization)
        owner = find_token(self._database, key) if key.startswith(TOKEN_PREFIX) else None
        if owner is not None and name in {None, owner.name}:
            return _Identity(visitor=Visitor(name=owner.name, role=owner.role), is_program=True)
        if wait := self._failed_tokens.take(network_of(asked.address)):
            seconds = str(int(wait) + 1)
            message = f"Expected fewer failed tokens, found too many. Try again in {seconds} s."
            return Answer(status=429, message=message, headers={"Retry-After": seconds})
        self._record(asked, Actor(name=UNKNOWN), "token", allowed=False)
        message = (
            "Expected an API token as `Authorization: Bearer TOKEN`, or as Basic with NAME:TOKEN, found none that is "
            "valid: it is unknown, revoked or expired, or of another name. A password is no token: make one on "
            "/account."
        )
        return Answer(status=401, message=message, headers={"WWW-Authenticate": "Bearer"})

    def _by_role(self, asked: Asked, identity: _Identity) -> Answer:
        part, inner = locate(asked.path)
        method = SOCKET if asked.is_socket else asked.method
        need, visitor = need_of(part, method, inner), identity.visitor
        problem = _problem(inner if part == Part.STUDIO else "", identity)
        if not problem and not need.is_met_by(visitor.role):
            problem = (
                f"Expected the role {need.role} for this, found {visitor.name}, who is {visitor.role}. Ask an admin."
            )
        # What a worker does several times a second is in the log of its runs; what runs it starts is not.
        is_worker = identity.is_program and visitor.role is UserRole.WORKER
        is_routine = is_worker and not inner.endswith("/create_flow_run")
        changes = asked.is_socket or asked.method not in _READING
        acts = need.role > UserRole.VIEWER and changes and not is_routine
        if acts or problem:
            self._record(asked, self._actor(visitor), "request", allowed=not problem)
        if not problem:
            return Answer(status=204, visitor=visitor)
        if identity.is_provisional and asked.opens_a_page:
            return Answer(status=302, message=problem, headers={"Location": "/account"})
        return Answer(status=403, message=problem)

    @staticmethod
    def _actor(visitor: Visitor) -> Actor:
        return Actor(name=visitor.name, role=str(visitor.role))

    def _record(self, asked: Asked, actor: Actor, action: str, *, allowed: bool, detail: str = "") -> None:
        entry = AuditEntry(
            actor=Actor(name=actor.name, role=actor.role, address=asked.address, request_id=asked.request_id),
            part=locate(asked.path)[0],
            action=action,
            allowed=allowed,
            detail=detail,
            method=SOCKET if asked.is_socket else asked.method,
            path=asked.path,
        )
        record_alone(self._database, entry)


def credentials_of(headers: Sequence[str]) -> tuple[str | None, str]:
    """Return name and key of an Authorization header; no name for Bearer, an empty key for what is neither."""
    scheme, _, value = headers[0].partition(" ")
    if len(headers) > 1:
        return None, ""
    if scheme.lower() == "bearer":
        return None, value.strip()
    try:
        name, _, key = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None, ""
    return (name, key) if scheme.lower() == "basic" else (None, "")


def local_address(text: str) -> str:
    """Return an address to go on to after signing in: of this site, or the first page."""
    is_local = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    is_sign_in = text.partition("?")[0].startswith((SIGN_IN, "/sign-out"))
    return text if is_local and not is_sign_in and "\\" not in text else "/"


def _problem(path: str, identity: _Identity) -> str:
    """Why a person or a program must not use a page of accounts now, or pages besides; empty: no reason."""
    if identity.is_provisional and not _is_in(path, _OWN_ACCOUNT):
        return "Expected a password of your own, found the one that you were given. Change it on /account."
    if identity.is_program and _is_in(path, _PEOPLE_ALONE):
        return "Expected a person who has signed in, found a token. Open this address in a browser."
    return ""


def _is_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _sign_in_first(asked: Asked) -> Answer:
    message = "Expected somebody who has signed in, found nobody. Sign in on /sign-in, or send an API token."
    if asked.opens_a_page:
        return Answer(status=302, message=message, headers={"Location": _sign_in_address(asked.uri)})
    headers = {"WWW-Authenticate": "Bearer"}
    if asked.htmx_page is not None:
        page = urlsplit(asked.htmx_page)
        headers["HX-Redirect"] = _sign_in_address(f"{page.path}?{page.query}" if page.query else page.path)
    return Answer(status=401, message=message, headers=headers)


def _sign_in_address(target: str) -> str:
    return f"{SIGN_IN}?next={quote(local_address(target), safe='')}"

"""The page on which people change their password, make tokens for their programs, and see where they are signed in."""

from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.accounts import cookies
from infra.accounts.errors import AccountError
from infra.accounts.passwords import SHORTEST, require_password
from infra.accounts.people import change_password, find_account
from infra.accounts.roles import UserRole
from infra.accounts.sessions import end_session, find_session, list_sessions, open_session
from infra.accounts.tokens import MOST_DAYS, list_tokens, make_token, revoke_token
from infra.front_page.askers import client_of, people_of, require_person
from infra.front_page.bodies import read_form
from infra.front_page.pages import render
from infra.front_page.signing_in import MAX_BYTES, with_session

TOKENS_CHANGED = "studio:tokens"  # the event that the page gets
_DAYS = (7, 30, 90, MOST_DAYS)


def show_page(request: Request) -> Response:
    """Return the page, without tokens and sessions.

    Raises:
        AccountError: The account was removed just now.
    """
    actor = require_person(request)
    account = find_account(people_of(request).database, actor.name)
    if account is None:
        raise AccountError("Expected your account, found that it was removed. Ask an admin.")
    own = UserRole.parse(actor.role)
    roles = [role for role in UserRole if role <= own and (role is not UserRole.WORKER or own is role)]
    return render(request, "account.html", account=account, roles=roles, days=_DAYS, shortest=SHORTEST)


def show_tokens(request: Request) -> Response:
    """Return the list of tokens."""
    actor = require_person(request)
    return render(request, "account_tokens.html", tokens=list_tokens(people_of(request).database, actor.name))


def show_sessions(request: Request) -> Response:
    """Return the list of sessions."""
    actor = require_person(request)
    database = people_of(request).database
    own = find_session(database, request.cookies.get(cookies.SESSION, ""))
    return render(
        request,
        "account_sessions.html",
        sessions=list_sessions(database, actor.name),
        own=own.id if own else None,
    )


async def set_password(request: Request) -> Response:
    """Change the password; form fields `present`, `new` and `again`. All sessions end but that of this browser."""
    fields = {name: values[-1] for name, values in (await read_form(request, MAX_BYTES)).items()}
    return await people_of(request).run_hashing(partial(_set_password, request, fields))


def _set_password(request: Request, fields: dict[str, str]) -> Response:
    actor, people = require_person(request), people_of(request)
    new = require_password(fields.get("new", ""), actor.name)
    if new != fields.get("again", ""):
        raise AccountError("Expected the new password twice, found two that differ. Type both again.")
    if new == fields.get("present", ""):
        raise AccountError("Expected a new password, found the present one. Choose another.")
    people.sign_in.require_password(actor.name, fields.get("present", ""), client_of(request), "password-change")
    change_password(people.database, actor.name, new, actor)
    key = open_session(people.database, actor, request.headers.get("user-agent", ""), "password change")
    # The token of the page belonged to the session that has ended.
    return with_session(Response(headers={"HX-Redirect": "/account", "Cache-Control": "no-store"}), key)


async def add_token(request: Request) -> Response:
    """Make a token, and show it this once; form fields `name`, `role` and `days`."""
    fields = {name: values[-1] for name, values in (await read_form(request, MAX_BYTES)).items()}
    return await run_in_threadpool(_add_token, request, fields)


def _add_token(request: Request, fields: dict[str, str]) -> Response:
    actor, days = require_person(request), fields.get("days", "")
    role = parse_role(fields.get("role", ""))
    length = int(days) if days.isdecimal() and len(days) < 5 else 0
    key = make_token(people_of(request).database, actor, fields.get("name", "").strip(), role, length)
    return render(request, "account_token.html", events=(TOKENS_CHANGED,), key=key, name=actor.name)


def drop_token(request: Request) -> Response:
    """Revoke a token."""
    revoke_token(people_of(request).database, require_person(request), request.path_params["token"])
    return show_tokens(request)


def drop_session(request: Request) -> Response:
    """End a session."""
    end_session(people_of(request).database, require_person(request), request.path_params["session"])
    return show_sessions(request)


def parse_role(text: str) -> UserRole:
    """Return the role that a form names.

    Raises:
        AccountError: There is none of that name.
    """
    try:
        return UserRole.parse(text)
    except ValueError as error:
        raise AccountError(str(error)) from error


ROUTES = [
    Route("/account", show_page),
    Route("/account/password", set_password, methods=["POST"]),
    Route("/account/tokens", show_tokens),
    Route("/account/tokens", add_token, methods=["POST"]),
    Route("/account/tokens/{token:int}/revoke", drop_token, methods=["POST"]),
    Route("/account/sessions", show_sessions),
    Route("/account/sessions/{session:int}/end", drop_session, methods=["POST"]),
]

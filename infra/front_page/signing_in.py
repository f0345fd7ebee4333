"""Signing in and out, through the front door."""

import hmac
import secrets
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.accounts import cookies
from infra.accounts.errors import AccountError, RefusedSignInError, TooManyAttemptsError
from infra.accounts.gate import SIGN_IN, local_address
from infra.accounts.sessions import LONGEST_DAYS, end_session, find_session
from infra.front_page.askers import client_of, people_of, require_front_door, require_person
from infra.front_page.bodies import read_form
from infra.front_page.pages import render

MAX_BYTES = 2**14


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What the form holds, and the key of the browser that it is for."""

    target: str
    key: str
    name: str = ""
    message: str = ""


def show_form(request: Request) -> Response:
    """Return the form to sign in; query: `next`, where to go on."""
    require_front_door(request)
    key = request.cookies.get(cookies.SIGN_IN) or secrets.token_urlsafe(32)
    return _form(request, _Form(target=local_address(request.query_params.get("next", "")), key=key))


async def sign_in(request: Request) -> Response:
    """Sign a person in; form fields `name`, `password`, `next`, and `form`, which shows that the form is ours."""
    require_front_door(request)
    fields = {name: values[-1] for name, values in (await read_form(request, MAX_BYTES)).items()}
    return await run_in_threadpool(_sign_in, request, fields)


def _sign_in(request: Request, fields: dict[str, str]) -> Response:
    key, target = request.cookies.get(cookies.SIGN_IN, ""), local_address(fields.get("next", ""))
    name = fields.get("name", "").strip().lower()
    if not key or not hmac.compare_digest(fields.get("form", "").encode(), _form_token(key).encode()):
        message = "The form was older than this browser's last one, or came from elsewhere. Fill it in once more."
        return _form(request, _Form(target=target, key=secrets.token_urlsafe(32), name=name, message=message), 403)
    browser = request.headers.get("user-agent", "")
    try:
        session = people_of(request).sign_in.open_session(name, fields.get("password", ""), client_of(request), browser)
    except (RefusedSignInError, TooManyAttemptsError) as error:
        wait = error.wait_s if isinstance(error, TooManyAttemptsError) else None
        answer = _form(request, _Form(target=target, key=key, name=name, message=str(error)), 429 if wait else 403)
        if wait:
            answer.headers["Retry-After"] = str(wait)
        return answer
    answer = RedirectResponse(target, 303, {"Cache-Control": "no-store"})
    answer.delete_cookie(cookies.SIGN_IN, path="/", secure=True, httponly=True, samesite="lax")
    return with_session(answer, session)


def sign_out(request: Request) -> Response:
    """End the session of this browser.

    Raises:
        AccountError: A program asks, which has no session.
    """
    actor = require_person(request)
    database = people_of(request).database
    session = find_session(database, request.cookies.get(cookies.SESSION, ""))
    if session is None or session.name != actor.name:
        raise AccountError("Expected a browser that has signed in, found another program. Revoke its token instead.")
    end_session(database, actor, session.id, action="sign-out")
    answer = Response(headers={"HX-Redirect": SIGN_IN, "Cache-Control": "no-store"})
    answer.delete_cookie(cookies.SESSION, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def with_session(answer: Response, key: str) -> Response:
    """Return the answer with the cookie of a session."""
    longest = LONGEST_DAYS * 24 * 3600
    answer.set_cookie(cookies.SESSION, key, max_age=longest, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _form(request: Request, form: _Form, status: int = 200) -> Response:
    answer = render(
        request,
        "sign_in.html",
        status=status,
        form=form,
        form_token=_form_token(form.key),
        provider=people_of(request).provider_name,
    )
    answer.set_cookie(cookies.SIGN_IN, form.key, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _form_token(key: str) -> str:
    return hmac.new(key.encode(), b"form to sign in", "sha256").hexdigest()


ROUTES = [
    Route(SIGN_IN, show_form),
    Route(SIGN_IN, sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
]

"""Signing in and out, through the front door."""

import hmac
import secrets
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.accounts import cookies
from infra.accounts.attempts import give_back_all, network_of, take_all
from infra.accounts.audit import AuditEntry, record_alone
from infra.accounts.errors import AccountError, RefusedSignInError, TooManyAttemptsError
from infra.accounts.gate import SIGN_IN, local_address
from infra.accounts.oidc_attempt import Attempt
from infra.accounts.people import PART, ensure_known_person
from infra.accounts.sessions import LONGEST_DAYS, end_session, find_session, open_session
from infra.accounts.sign_in import UNKNOWN
from infra.front_page.askers import client_of, people_of, require_front_door, require_person
from infra.front_page.bodies import read_form
from infra.front_page.pages import render

if TYPE_CHECKING:
    from infra.accounts.oidc import Provider

MAX_BYTES = 2**14
RETURN = f"{SIGN_IN}/oidc/callback"


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
    try:
        return await people_of(request).run_hashing(partial(_sign_in, request, fields))
    except TooManyAttemptsError as error:
        key, target = request.cookies.get(cookies.SIGN_IN, ""), local_address(fields.get("next", ""))
        answer = _form(request, _Form(target=target, key=key, name=fields.get("name", ""), message=str(error)), 429)
        answer.headers["Retry-After"] = str(error.wait_s)
        return answer


def _sign_in(request: Request, fields: dict[str, str]) -> Response:
    key, target = request.cookies.get(cookies.SIGN_IN, ""), local_address(fields.get("next", ""))
    name = fields.get("name", "").strip().lower()
    if not key or not hmac.compare_digest(fields.get("form", "").encode(), _form_token(key).encode()):
        message = "The form was older than this browser's last one, or came from elsewhere. Fill it in once more."
        return _form(request, _Form(target=target, key=secrets.token_urlsafe(32), name=name, message=message), 403)
    browser = request.headers.get("user-agent", "")
    try:
        session = people_of(request).sign_in.open_session(name, fields.get("password", ""), client_of(request), browser)
    except RefusedSignInError as error:
        return _form(request, _Form(target=target, key=key, name=name, message=str(error)), 403)
    answer = RedirectResponse(target, 303, {"Cache-Control": "no-store"})
    answer.delete_cookie(cookies.SIGN_IN, path="/", secure=True, httponly=True, samesite="lax")
    return with_session(answer, session)


def to_provider(request: Request) -> Response:
    """Lead to the OIDC provider; query: `next`, where to go on."""
    require_front_door(request)
    attempt, target = Attempt.begin(), local_address(request.query_params.get("next", ""))
    try:
        address = _provider(request).sign_in_address(attempt, _return_address(request))
    except AccountError as error:
        return _form(request, _Form(target=target, key=secrets.token_urlsafe(32), message=str(error)), 502)
    answer = RedirectResponse(address, 303, {"Cache-Control": "no-store"})
    kept = f"{attempt.key}.{quote(target, safe='')}"
    answer.set_cookie(cookies.PROVIDER, kept, max_age=600, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def from_provider(request: Request) -> Response:
    """Sign in whom the OIDC provider has signed in; query: what it answers."""
    require_front_door(request)
    people, provider, client = people_of(request), _provider(request), client_of(request)
    key, _, kept = request.cookies.get(cookies.PROVIDER, "").partition(".")
    target = local_address(unquote(kept))
    counted = [(people.provider_attempts, network_of(client.address))]
    if wait := take_all(counted):
        message = str(TooManyAttemptsError(wait))
        answer = _form(request, _Form(target=target, key=secrets.token_urlsafe(32), message=message), 429)
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer
    try:
        person = provider.person_behind(Attempt(key=key), dict(request.query_params), _return_address(request))
        actor = replace(client, name=person.name, role=str(person.role))
        ensure_known_person(people.database, person.name, person.role, (person.issuer, person.subject), actor)
        session = open_session(people.database, actor, request.headers.get("user-agent", ""), provider.name)
    except AccountError as error:
        failed = AuditEntry(actor=replace(client, name=UNKNOWN), part=PART, action="sign-in", allowed=False)
        record_alone(people.database, replace(failed, detail=f"{provider.name}: {error}"))
        answer = _form(request, _Form(target=target, key=secrets.token_urlsafe(32), message=str(error)), 403)
    else:
        give_back_all(counted)
        answer = with_session(RedirectResponse(target, 303, {"Cache-Control": "no-store"}), session)
    answer.delete_cookie(cookies.PROVIDER, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _provider(request: Request) -> "Provider":
    provider = people_of(request).provider
    if provider is None:
        raise HTTPException(404, "Expected a studio with an OIDC provider, found one without. Sign in with a password.")
    return provider


def _return_address(request: Request) -> str:
    return f"https://{request.headers.get('x-forwarded-host', '')}{RETURN}"


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
    provider = people_of(request).provider
    answer = render(
        request,
        "sign_in.html",
        status=status,
        form=form,
        form_token=_form_token(form.key),
        provider=provider.name if provider else "",
    )
    answer.set_cookie(cookies.SIGN_IN, form.key, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _form_token(key: str) -> str:
    return hmac.new(key.encode(), b"form to sign in", "sha256").hexdigest()


ROUTES = [
    Route(SIGN_IN, show_form),
    Route(SIGN_IN, sign_in, methods=["POST"]),
    Route(f"{SIGN_IN}/oidc", to_provider),
    Route(RETURN, from_provider),
    Route("/sign-out", sign_out, methods=["POST"]),
]

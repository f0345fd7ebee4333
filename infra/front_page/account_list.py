"""The page on which admins make accounts, change and remove them."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.accounts.audit import Actor
from infra.accounts.database import Database
from infra.accounts.people import (
    FIRST_PASSWORD_DAYS,
    add_account,
    list_accounts,
    remove_account,
    reset_password,
    set_disabled,
    set_role,
)
from infra.accounts.roles import UserRole
from infra.front_page.askers import people_of, require_admin
from infra.front_page.bodies import read_form
from infra.front_page.own_account import parse_role
from infra.front_page.pages import render
from infra.front_page.signing_in import MAX_BYTES

CHANGED = "studio:accounts"  # the event that the page gets


def show_page(request: Request) -> Response:
    """Return the page, without the list."""
    require_admin(request)
    return render(request, "accounts.html", roles=list(UserRole))


def show_list(request: Request) -> Response:
    """Return the list of accounts."""
    actor = require_admin(request)
    accounts = list_accounts(people_of(request).database)
    return render(request, "accounts_list.html", accounts=accounts, roles=list(UserRole), own=actor.name)


async def add(request: Request) -> Response:
    """Make an account, and show its first password this once; form fields `name` and `role`."""
    fields = {name: values[-1] for name, values in (await read_form(request, MAX_BYTES)).items()}
    return await run_in_threadpool(_add, request, fields)


def _add(request: Request, fields: dict[str, str]) -> Response:
    actor, name = require_admin(request), fields.get("name", "").strip()
    password = add_account(people_of(request).database, name, parse_role(fields.get("role", "")), actor)
    return _handed_over(request, name, password)


async def change_role(request: Request) -> Response:
    """Give an account another role; form field `role`."""
    fields = await read_form(request, MAX_BYTES)
    return await run_in_threadpool(_change_role, request, fields.get("role", [""])[-1])


def _change_role(request: Request, role: str) -> Response:
    return _changed(request, lambda database, name, by: set_role(database, name, parse_role(role), by))


def disable(request: Request) -> Response:
    """Shut an account."""
    return _changed(request, lambda database, name, by: set_disabled(database, name, by, disabled=True))


def enable(request: Request) -> Response:
    """Open an account again."""
    return _changed(request, lambda database, name, by: set_disabled(database, name, by, disabled=False))


def remove(request: Request) -> Response:
    """Remove an account."""
    return _changed(request, remove_account)


def reset(request: Request) -> Response:
    """Give an account a new password to hand over, and show it this once; its key of the object store is taken."""
    actor, name = require_admin(request), request.path_params["name"]
    people = people_of(request)
    password = reset_password(people.database, name, actor)
    people.take_store_key(name)
    return _handed_over(request, name, password)


def _changed(request: Request, change: Callable[[Database, str, Actor], None]) -> Response:
    actor = require_admin(request)
    change(people_of(request).database, request.path_params["name"], actor)
    return render(request, "accounts_changed.html", events=(CHANGED,))


def _handed_over(request: Request, name: str, password: str) -> Response:
    return render(
        request, "accounts_password.html", events=(CHANGED,), name=name, password=password, days=FIRST_PASSWORD_DAYS
    )


ROUTES = [
    Route("/accounts", show_page),
    Route("/accounts", add, methods=["POST"]),
    Route("/accounts/list", show_list),
    Route("/accounts/{name}/role", change_role, methods=["POST"]),
    Route("/accounts/{name}/disable", disable, methods=["POST"]),
    Route("/accounts/{name}/enable", enable, methods=["POST"]),
    Route("/accounts/{name}/reset-password", reset, methods=["POST"]),
    Route("/accounts/{name}/remove", remove, methods=["POST"]),
]

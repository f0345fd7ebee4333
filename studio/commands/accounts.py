"""Accounts of people who come through the front door, and the audit log, on the machine of the stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from studio.commands.options import AsJson
from studio.output import ERR, OUT, print_json, print_table
from tasks.errors import StudioError

if TYPE_CHECKING:
    from infra.accounts.database import Database
    from infra.accounts.people import Account
    from infra.accounts.roles import UserRole
    from infra.person_keys import Taken

Name = Annotated[str, typer.Argument(help="Name of the account.")]
RoleOption = Annotated[str, typer.Option("--role", help="viewer | operator | admin; worker: no person")]
_PANEL = "Accounts"

users = typer.Typer(
    name="users",
    help="People who may use the stack from outside: list them, or change one.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(users, rich_help_panel=_PANEL)
    app.command(rich_help_panel=_PANEL)(audit)


@users.callback(invoke_without_command=True)
def list_users(context: typer.Context, as_json: AsJson = False) -> None:
    """List the accounts, or change one with a command below."""
    if context.invoked_subcommand:
        return
    from infra.accounts.people import list_accounts

    with _accounts() as database:
        accounts = list_accounts(database)
    if as_json:
        print_json([asdict(account) | {"role": str(account.role)} for account in accounts])
        return
    columns = ("name", "role", "state", "made", "made by")
    rows = [(each.name, each.role, _state(each), each.made, each.made_by) for each in accounts]
    print_table(columns, rows)


@users.command()
def add(name: Name, role: RoleOption, as_json: AsJson = False) -> None:
    """Make an account, and print the password to hand over; it has to be changed at the first sign-in."""
    from infra.accounts.bootstrap import STACK_OWNER
    from infra.accounts.people import add_account

    with _accounts() as database:
        _hand_over(name, add_account(database, name, _role(role), STACK_OWNER), as_json=as_json)


@users.command("set-role")
def set_role(name: Name, role: RoleOption) -> None:
    """Give an account another role, from its next request on."""
    from infra.accounts import people
    from infra.accounts.bootstrap import STACK_OWNER

    with _accounts() as database:
        people.set_role(database, name, _role(role), STACK_OWNER)
        _update_keys(database, name, f"{name} is {role}")
    print(f"{name} is {role}")


@users.command()
def disable(name: Name) -> None:
    """Shut an account: its sessions end, its tokens are refused, and its keys of the object store are taken."""
    with _accounts() as database:
        _set_disabled(database, name, disabled=True)
        _update_keys(database, name, f"{name} is disabled")
    print(f"{name} is disabled; `studio users enable {name}` opens it again, but gives no S3 key back")


@users.command()
def enable(name: Name) -> None:
    """Open an account again; it gets no key of the object store back."""
    with _accounts() as database:
        _set_disabled(database, name, disabled=False)
    print(f"{name} may sign in again")


@users.command("reset-password")
def reset_password(name: Name, as_json: AsJson = False) -> None:
    """Print a new password to hand over; the account's sessions end, its tokens are revoked, its S3 key is taken."""
    from infra import person_keys, stack
    from infra.accounts import people
    from infra.accounts.bootstrap import STACK_OWNER

    with _accounts() as database:
        password = people.reset_password(database, name, STACK_OWNER)
    _hand_over(name, password, as_json=as_json)
    with _after(f"{name} has another password", name):
        _tell(person_keys.take_key(stack.load_settings(), name))


@users.command()
def remove(name: Name) -> None:
    """Remove an account; what the audit log says of it stays."""
    from infra.accounts.bootstrap import STACK_OWNER
    from infra.accounts.people import remove_account

    with _accounts() as database:
        remove_account(database, name, STACK_OWNER)
        _update_keys(database, name, f"{name} is removed")
    print(f"{name} is removed")


@users.command("s3-key")
def s3_key(
    name: Name,
    take: Annotated[bool, typer.Option("--take", help="Take the key away instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a key of the object store for an account, in the place of the one that it had; it is shown this once."""
    from infra import person_keys, stack
    from infra.accounts.store_keys import role_of

    settings = stack.load_settings()
    if take:
        print(f"{name}: {person_keys.take_key(settings, name)}")
        return
    with _accounts() as database:
        role = role_of(database, name)
    made = person_keys.give_key(settings, name, role)
    known = {
        "AWS_ENDPOINT_URL": settings.public_s3_url,
        "AWS_ACCESS_KEY_ID": made.key,
        "AWS_SECRET_ACCESS_KEY": made.secret,
        "AWS_DEFAULT_REGION": settings.environment["AWS_DEFAULT_REGION"],
    }
    if as_json:
        print_json(known)
        return
    for variable, value in known.items():
        OUT.print(f"{variable}={value}", markup=False)


def audit(
    user: Annotated[str | None, typer.Option(help="Of one name; studio is this machine.")] = None,
    since: Annotated[str | None, typer.Option(help="From a day of UTC on, such as 2026-11-30.")] = None,
    part: Annotated[str | None, typer.Option(help="accounts | studio | prefect | mlflow")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Who signed in, what became of accounts, and who asked for what changes something; the newest first."""
    from infra.accounts.audit import AuditChoice, list_entries

    choice = AuditChoice(name=user, part=part, since=_day(since) if since else None)
    with _accounts() as database:
        entries = list_entries(database, choice, before=None, limit=limit)
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    columns = ("time", "name", "role", "outcome", "part", "what", "address", "request")
    print_table(
        columns,
        [
            (
                *(each.time, each.name, each.role, "allowed" if each.allowed else "refused", each.part),
                " ".join(filter(None, [each.action, each.method, each.path, each.detail])),
                *(each.address, each.request_id),
            )
            for each in entries
        ],
    )
    if len(entries) == limit:
        ERR.print(f"the newest {limit}: --limit and --since show others", markup=False)


@contextmanager
def _accounts() -> "Iterator[Database]":
    from infra import stack
    from infra.accounts.bootstrap import open_accounts

    with open_accounts(stack.load_settings()) as database:
        yield database


def _set_disabled(database: "Database", name: str, *, disabled: bool) -> None:
    from infra.accounts import people
    from infra.accounts.bootstrap import STACK_OWNER

    people.set_disabled(database, name, STACK_OWNER, disabled=disabled)


def _update_keys(database: "Database", name: str, done: str) -> None:
    """Have the keys of the object store follow now, whether or not the front page runs, which does it, too."""
    from infra import stack
    from infra.accounts.store_keys import update_keys

    with _after(done, name):
        _tell(update_keys(stack.load_settings(), database))


def _tell(outcome: "Taken") -> None:
    from infra.person_keys import Taken

    if outcome is not Taken.NOTHING:
        ERR.print(str(outcome), markup=False)


@contextmanager
def _after(done: str, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, StudioError) as error:
        raise StudioError(
            f"{done}, but its keys of the object store are as they were: {error}\n`studio users s3-key {name} --take` "
            "takes them."
        ) from error


def _hand_over(name: str, password: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "password": password})
        return
    OUT.print(password, markup=False)
    ERR.print(
        f"hand it over to {name}: it is valid for 7 days, and has to be changed at the first sign-in", markup=False
    )


def _state(account: "Account") -> str:
    from infra.accounts.roles import UserRole

    if account.disabled:
        return "disabled"
    awaits = account.password_until and account.role is not UserRole.WORKER  # a machine has a token alone
    return "has not chosen a password" if awaits else "active"


def _role(text: str) -> "UserRole":
    from infra.accounts.roles import UserRole

    try:
        return UserRole.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--role") from error


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise StudioError(f"Expected a day such as 2026-11-30 in --since, found {text[:40]!r}. Write it so.") from error

"""Accounts: made, listed, changed and removed, each with its entry in the audit log."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, text

from infra.accounts.audit import Actor, AuditEntry, record
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.names import require_name
from infra.accounts.passwords import hash_password
from infra.accounts.random_keys import new_password
from infra.accounts.roles import UserRole
from tasks.errors import expected_found_fix, safe_repr

PART = "accounts"
FIRST_PASSWORD_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class Account:
    """A person. `password_until`: their password was handed over, and has to be changed before; None: it is theirs.

    `issuer` is the OIDC provider that knows them; None: they sign in with a password.
    """

    name: str
    role: UserRole
    disabled: bool
    made: datetime
    made_by: str
    password_until: datetime | None
    issuer: str | None


_COLUMNS = "name, role, disabled, made, made_by, password_until, issuer"


def list_accounts(database: Database) -> list[Account]:
    """Return all accounts, by name."""
    with database.transaction() as connection:
        rows = connection.execute(text(f"SELECT {_COLUMNS} FROM accounts ORDER BY name")).mappings()  # noqa: S608
        return [_account(row) for row in rows]


def find_account(database: Database, name: str) -> Account | None:
    """Return the account of that name; None if there is none."""
    query = text(f"SELECT {_COLUMNS} FROM accounts WHERE name = :name")  # noqa: S608
    with database.transaction() as connection:
        row = connection.execute(query, {"name": name}).mappings().one_or_none()
    return _account(row) if row else None


def read_password(database: Database, name: str) -> str | None:
    """Return the hash of the password of an account that may sign in with it now; None if there is none."""
    query = text(
        "SELECT password FROM accounts WHERE name = :name AND NOT disabled "
        "AND (password_until IS NULL OR password_until > now())"
    )
    with database.transaction() as connection:
        found: str | None = connection.execute(query, {"name": name}).scalar()
    return found


def add_account(database: Database, name: str, role: UserRole, by: Actor, *, password: str | None = None) -> str:
    """Make an account, and return its password; one that is not given is new, and has to be changed within seven days.

    Raises:
        AccountError: The name is none, or is taken.
    """
    first = password or new_password()
    values = {"name": require_name(name), "role": str(role), "by": by.name, "password": hash_password(first)}
    until = "NULL" if password else f"now() + interval '{FIRST_PASSWORD_DAYS} days'"
    query = text(
        "INSERT INTO accounts (name, role, made_by, password, password_until) "  # noqa: S608 - texts of ours
        f"VALUES (:name, :role, :by, :password, {until}) ON CONFLICT DO NOTHING"
    )
    with database.transaction() as connection:
        if not connection.execute(query, values).rowcount:
            raise AccountError(
                expected_found_fix("a name that is free", safe_repr(name), "Choose another, or change that account.")
            )
        record(connection, _entry(by, "account-added", f"{name} as {role}"))
    return first


def ensure_admin(database: Database, name: str, password: str, by: Actor) -> bool:
    """Make an admin if there is no account yet; return whether it was made."""
    with database.transaction() as connection:
        if connection.execute(text("SELECT count(*) FROM accounts")).scalar():
            return False
    add_account(database, name, UserRole.ADMIN, by, password=password)
    return True


def ensure_known_person(database: Database, name: str, role: UserRole, known_as: tuple[str, str], by: Actor) -> None:
    """Make the account of a person whom an OIDC provider knows as (issuer, subject), or give it the role of today.

    Raises:
        AccountError: The name belongs to another account, or its role cannot be lowered.
    """
    issuer, subject = known_as
    identity = {"name": require_name(name), "issuer": issuer, "subject": subject}
    insert = text(
        "INSERT INTO accounts (name, role, made_by, issuer, subject) VALUES (:name, :role, :by, :issuer, :subject) "
        "ON CONFLICT DO NOTHING"
    )
    find = text("SELECT name, role FROM accounts WHERE issuer = :issuer AND subject = :subject")
    with _change(database) as connection:
        if connection.execute(insert, identity | {"role": str(role), "by": by.name}).rowcount:
            record(connection, _entry(by, "account-added", f"{name} as {role}, known to {issuer}"))
            return
        row = connection.execute(find, identity).one_or_none()
        if row is None or row.name != name:
            raise AccountError(
                expected_found_fix(
                    f"an account {name} that belongs to this person of {issuer}",
                    "one of somebody else, or this person under another name",
                    "An admin has to remove one of the two.",
                )
            )
        if row.role != str(role):
            connection.execute(
                text("UPDATE accounts SET role = :role WHERE name = :name"), identity | {"role": str(role)}
            )
            record(connection, _entry(by, "role-changed", f"{name} from {row.role} to {role}"))


def set_role(database: Database, name: str, role: UserRole, by: Actor) -> None:
    """Change a role; it holds from the next request on, also for sessions and tokens.

    Raises:
        AccountError: There is no such account, or it is the last admin.
    """
    query = text("UPDATE accounts SET role = :role WHERE name = :name")
    with _change(database) as connection:
        _require_row(connection.execute(query, {"name": require_name(name), "role": str(role)}).rowcount, name)
        record(connection, _entry(by, "role-changed", f"{name} to {role}"))


def set_disabled(database: Database, name: str, by: Actor, *, disabled: bool) -> None:
    """Shut an account or open it again; when it is shut its sessions end, and its tokens open nothing.

    Raises:
        AccountError: There is no such account, or it is the last admin.
    """
    query = text("UPDATE accounts SET disabled = :disabled WHERE name = :name")
    with _change(database) as connection:
        _require_row(connection.execute(query, {"name": require_name(name), "disabled": disabled}).rowcount, name)
        if disabled:
            connection.execute(text("DELETE FROM sessions WHERE account = :name"), {"name": name})
        record(connection, _entry(by, "account-disabled" if disabled else "account-enabled", name))


def reset_password(database: Database, name: str, by: Actor) -> str:
    """Give an account a new password to hand over, and return it; its sessions and its tokens end.

    Raises:
        AccountError: There is no such account, or an OIDC provider signs it in.
    """
    first = new_password()
    hashed = hash_password(first)
    with _change(database) as connection:
        _set_password(connection, name, hashed, f"now() + interval '{FIRST_PASSWORD_DAYS} days'")
        connection.execute(text("DELETE FROM tokens WHERE account = :name"), {"name": name})
        record(connection, _entry(by, "password-reset", name))
    return first


def change_password(database: Database, name: str, password: str, by: Actor) -> None:
    """Give an account a password of its own; all its sessions end.

    Raises:
        AccountError: There is no such account, or an OIDC provider signs it in.
    """
    hashed = hash_password(password)
    with _change(database) as connection:
        _set_password(connection, name, hashed, "NULL")
        record(connection, _entry(by, "password-changed", name))


def _set_password(connection: Connection, name: str, hashed: str, until: str) -> None:
    """Write the hash of a password that is valid until that expression of SQL, and end the sessions of the account."""
    query = f"UPDATE accounts SET password = :password, password_until = {until} WHERE name = :name AND issuer IS NULL"  # noqa: S608
    values = {"name": require_name(name), "password": hashed}
    _require_row(connection.execute(text(query), values).rowcount, name, "with a password")
    connection.execute(text("DELETE FROM sessions WHERE account = :name"), {"name": name})


def remove_account(database: Database, name: str, by: Actor) -> None:
    """Remove an account with its sessions and its tokens; what the audit log says of it stays.

    Raises:
        AccountError: There is no such account, or it is the last admin.
    """
    with _change(database) as connection:
        query = text("DELETE FROM accounts WHERE name = :name")
        _require_row(connection.execute(query, {"name": require_name(name)}).rowcount, name)
        record(connection, _entry(by, "account-removed", name))


@contextmanager
def _change(database: Database) -> Iterator[Connection]:
    """A transaction that leaves an admin who can sign in; changes wait for each other, so that two leave one, too."""
    with database.transaction() as connection:
        connection.execute(text("LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE"))
        yield connection
        if not connection.execute(text("SELECT count(*) FROM accounts WHERE role = 'admin' AND NOT disabled")).scalar():
            raise AccountError(
                "Expected at least one admin who can sign in, found that this would leave none. Make another first: "
                "`studio users add NAME --role admin`."
            )


def _require_row(changed: int, name: str, kind: str = "") -> None:
    if not changed:
        expected = " ".join(filter(None, ["an account", kind]))
        raise AccountError(
            expected_found_fix(expected, f"none of name {safe_repr(name)}", "`studio users` lists all accounts.")
        )


def _entry(by: Actor, action: str, detail: str) -> AuditEntry:
    return AuditEntry(actor=by, part=PART, action=action, detail=detail)


def _account(row: RowMapping) -> Account:
    return Account(**{**row, "role": UserRole.parse(row["role"])})

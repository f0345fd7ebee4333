"""Sessions of people who have signed in with a browser: a key in a cookie, of which the database has the digest."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from infra.accounts.audit import Actor, AuditEntry, record
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.people import PART
from infra.accounts.random_keys import digest, new_key
from infra.accounts.roles import UserRole

IDLE_HOURS = 12
LONGEST_DAYS = 7
MOST = 20  # of one person; the oldest ends when another begins
_ALIVE = f"used > now() - interval '{IDLE_HOURS} hours' AND sessions.made > now() - interval '{LONGEST_DAYS} days'"


@dataclass(frozen=True, kw_only=True)
class Session:
    """Who is behind a cookie. `is_provisional`: their password was handed over, and has to be changed first."""

    id: int
    name: str
    role: UserRole
    is_provisional: bool


@dataclass(frozen=True, kw_only=True)
class SessionEntry:
    """A session, as its owner sees it among the others."""

    id: int
    made: datetime
    used: datetime
    address: str
    browser: str


def open_session(database: Database, by: Actor, browser: str, how: str) -> str:
    """Begin a session of the account of `by`, and return its key; `how` it was signed in goes into the audit log.

    Raises:
        AccountError: The account was removed or disabled meanwhile.
    """
    key = new_key()
    values = {
        "digest": digest(key),
        "name": by.name,
        "address": by.address,
        "browser": _shortened(browser),
        "most": MOST,
    }
    begin = text(
        "INSERT INTO sessions (digest, account, address, browser) "
        "SELECT :digest, name, :address, :browser FROM accounts WHERE name = :name AND NOT disabled"
    )
    end_oldest = text(
        "DELETE FROM sessions WHERE account = :name AND id NOT IN "
        "(SELECT id FROM sessions WHERE account = :name ORDER BY id DESC LIMIT :most)"
    )
    with database.transaction() as connection:
        if not connection.execute(begin, values).rowcount:
            raise AccountError("Expected an account that may sign in, found none any more. Ask an admin.")
        connection.execute(end_oldest, values)
        record(connection, AuditEntry(actor=by, part=PART, action="sign-in", detail=how))
    return key


def find_session(database: Database, key: str) -> Session | None:
    """Return who a key of a cookie is of; None if the session has ended or the account is shut."""
    query = text(
        "SELECT sessions.id, name, role, password_until IS NOT NULL AS is_provisional, "  # noqa: S608
        "used < now() - interval '1 minute' AS is_stale "
        f"FROM sessions JOIN accounts ON name = account WHERE digest = :digest AND NOT disabled AND {_ALIVE}"
    )
    with database.transaction() as connection:
        row = connection.execute(query, {"digest": digest(key)}).one_or_none()
        if row is None:
            return None
        if row.is_stale:
            connection.execute(text("UPDATE sessions SET used = now() WHERE id = :id"), {"id": row.id})
    role = UserRole.parse(row.role)
    return Session(id=row.id, name=row.name, role=role, is_provisional=row.is_provisional)


def has_signed_in_from(database: Database, name: str, address: str) -> bool:
    """Return whether an account has signed in from an address in the last 90 days."""
    query = text(
        "SELECT EXISTS (SELECT 1 FROM audit WHERE name = :name AND action = 'sign-in' AND allowed "
        "AND address = :address AND time > now() - interval '90 days')"
    )
    with database.transaction() as connection:
        return bool(connection.execute(query, {"name": name, "address": address}).scalar())


def list_sessions(database: Database, name: str) -> list[SessionEntry]:
    """Return the sessions of an account that have not ended, the newest first."""
    query = text(
        "SELECT id, made, used, address, browser FROM sessions "  # noqa: S608
        f"WHERE account = :name AND {_ALIVE} ORDER BY id DESC"
    )
    with database.transaction() as connection:
        return [SessionEntry(**row) for row in connection.execute(query, {"name": name}).mappings()]


def end_session(database: Database, by: Actor, session: int, *, action: str = "session-ended") -> None:
    """End a session of the account of `by`; one that has ended stays so."""
    query = text("DELETE FROM sessions WHERE id = :id AND account = :name")
    with database.transaction() as connection:
        if connection.execute(query, {"id": session, "name": by.name}).rowcount:
            record(connection, AuditEntry(actor=by, part=PART, action=action))


def end_all_sessions(database: Database, by: Actor, why: str) -> None:
    """End the sessions of everybody; a database without the tables of accounts has none."""
    with database.transaction() as connection:
        if connection.execute(text("SELECT to_regclass('sessions')")).scalar():
            connection.execute(text("DELETE FROM sessions"))
            record(connection, AuditEntry(actor=by, part=PART, action="sessions-ended", detail=why))


def forget_ended(database: Database) -> None:
    """Remove the sessions that have ended by themselves, and tokens a month after their expiry."""
    with database.transaction() as connection:
        connection.execute(text(f"DELETE FROM sessions WHERE NOT ({_ALIVE})"))  # noqa: S608
        connection.execute(text("DELETE FROM tokens WHERE expires < now() - interval '30 days'"))


def _shortened(browser: str) -> str:
    return "".join(letter for letter in browser if letter.isprintable())[:200]

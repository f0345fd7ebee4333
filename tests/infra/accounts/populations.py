"""People, and time that passes, for tests of accounts."""

from sqlalchemy import text

from infra.accounts.audit import Actor, AuditChoice, RecordedEntry, list_entries
from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.passwords import hash_password
from infra.accounts.roles import UserRole
from infra.accounts.sessions import open_session
from infra.accounts.tokens import make_token

PASSWORD = "correct horse battery"
_HASH = hash_password(PASSWORD)  # once: it takes 0.3 s


def add_person(database: Database, name: str, role: UserRole = UserRole.OPERATOR) -> Actor:
    """Make an account whose password is `PASSWORD`; return who that is."""
    query = text("INSERT INTO accounts (name, role, made_by, password) VALUES (:name, :role, :by, :password)")
    values = {"name": name, "role": str(role), "by": STACK_OWNER.name, "password": _HASH}
    with database.transaction() as connection:
        connection.execute(query, values)
    return Actor(name=name, role=str(role), address="192.0.2.7")


def add_session(database: Database, name: str) -> str:
    """Return the key of a new session of an account."""
    return open_session(database, Actor(name=name, address="192.0.2.7"), "a browser", "password")


def add_token(database: Database, name: str, role: UserRole = UserRole.OPERATOR, days: int = 30) -> str:
    """Return a new token of an account."""
    return make_token(database, Actor(name=name), f"a {role}", role, days)


def pass_time(database: Database, table: str, column: str, interval: str) -> None:
    """Move a time of each row of a table into the past, as far as that interval of PostgreSQL is long."""
    with database.transaction() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '{interval}'"))  # noqa: S608


def audit_of(database: Database) -> list[RecordedEntry]:
    """All entries, the newest first."""
    return list_entries(database, AuditChoice(), before=None, limit=1000)

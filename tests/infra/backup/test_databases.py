"""A database comes back whole or not at all, and over no other."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.sessions import end_all_sessions, find_session
from infra.accounts.tokens import list_tokens
from infra.backup import databases
from infra.command_errors import StackError
from infra.stack_settings import StackSettings
from tests.infra.accounts.populations import add_person, add_session, add_token, audit_of

NAME = "put_back"


def run(settings: StackSettings, database: str, statement: str) -> None:
    with contextlib.closing(psycopg2.connect(f"{settings.database_url}/{database}")) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


def names(settings: StackSettings) -> set[str]:
    with contextlib.closing(psycopg2.connect(f"{settings.database_url}/postgres")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT datname FROM pg_database")
        return {row[0] for row in cursor.fetchall()}


@pytest.fixture
def settings(accounts_settings: StackSettings) -> Iterator[StackSettings]:
    """The settings of a PostgreSQL server that has no database `put_back`."""
    yield accounts_settings
    for name in (NAME, f"{NAME}_restoring"):
        run(accounts_settings, "postgres", f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture
def dump(settings: StackSettings, database: Database, tmp_path: Path) -> Path:
    """A dump of the database of accounts, with an account in it."""
    add_person(database, "ada")
    path = tmp_path / "dump"
    with databases.open_snapshots(settings, ["studio"]) as snapshots:
        path.write_bytes(b"".join(databases.dump(settings, "studio", snapshots["studio"])))
    return path


def test_a_database_has_its_name_when_it_is_whole(settings: StackSettings, dump: Path) -> None:
    damaged = dump.with_name("damaged")
    damaged.write_bytes(dump.read_bytes()[:-200])
    with pytest.raises(StackError, match=f"Database {NAME} could not be restored"):
        databases.restore(settings, NAME, damaged)
    assert NAME not in names(settings)
    databases.restore(settings, NAME, dump)
    assert databases.has_tables(settings, NAME)
    assert f"{NAME}_restoring" not in names(settings)


def test_one_that_has_tables_stays(settings: StackSettings, dump: Path) -> None:
    run(settings, "postgres", f"CREATE DATABASE {NAME}")
    run(settings, NAME, "CREATE TABLE work_of_a_year ()")
    with pytest.raises(StackError, match=r"found 1 tables in it.*writes over nothing"):
        databases.restore(settings, NAME, dump)
    run(settings, NAME, "DROP TABLE work_of_a_year")  # it was there
    databases.restore(settings, NAME, dump)  # into an empty one
    assert databases.has_tables(settings, NAME)


def test_all_sessions_end_and_tokens_stay(settings: StackSettings, database: Database) -> None:
    ada = add_person(database, "ada")
    key = add_session(database, "ada")
    add_token(database, "ada")
    end_all_sessions(database, STACK_OWNER, "restored")
    assert find_session(database, key) is None
    (newest, *_) = audit_of(database)
    assert (newest.action, newest.detail) == ("sessions-ended", "restored")
    assert len(list_tokens(database, ada.name)) == 1
    run(settings, "postgres", f"CREATE DATABASE {NAME}")
    with contextlib.closing(Database(f"{settings.accounts_url.removesuffix('studio')}{NAME}")) as without_tables:
        end_all_sessions(without_tables, STACK_OWNER, "restored")

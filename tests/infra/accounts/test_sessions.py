"""Sessions in a real PostgreSQL."""

import pytest
from sqlalchemy import text

from infra.accounts.audit import Actor
from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.people import add_account, set_role
from infra.accounts.roles import UserRole
from infra.accounts.sessions import MOST, end_session, find_session, forget_ended, list_sessions, open_session
from tests.infra.accounts.populations import add_person, add_session, audit_of, pass_time


def test_a_session_is_of_who_signed_in_and_of_nobody_with_another_key(database: Database) -> None:
    add_person(database, "ada")
    found = find_session(database, add_session(database, "ada"))
    assert found is not None
    assert (found.name, found.role, found.is_provisional) == ("ada", UserRole.OPERATOR, False)
    assert [find_session(database, key) for key in ("", "x", "studio_x")] == [None] * 3


def test_who_reads_the_database_cannot_take_a_session(database: Database) -> None:
    add_person(database, "ada")
    key = add_session(database, "ada")
    with database.transaction() as connection:
        kept = connection.execute(text("SELECT digest FROM sessions")).scalar()
    assert isinstance(kept, str)
    assert key not in kept
    assert find_session(database, kept) is None


@pytest.mark.parametrize(
    ("column", "interval", "lives"),
    [("used", "11 hours", True), ("used", "12 hours", False), ("made", "167 hours", True), ("made", "7 days", False)],
)
def test_a_session_ends_when_it_rests_and_when_it_is_old(
    database: Database, column: str, interval: str, lives: bool
) -> None:
    add_person(database, "ada")
    key = add_session(database, "ada")
    pass_time(database, "sessions", column, interval)
    assert len(list_sessions(database, "ada")) == int(lives)
    assert (find_session(database, key) is not None) is lives
    forget_ended(database)
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM sessions")).scalar() == int(lives)


def test_the_use_of_a_session_is_written_once_a_minute_at_most(database: Database) -> None:
    add_person(database, "ada")
    key = add_session(database, "ada")

    def used() -> object:
        with database.transaction() as connection:
            return connection.execute(text("SELECT used FROM sessions")).scalar()

    first = used()
    find_session(database, key)
    assert used() == first
    pass_time(database, "sessions", "used", "61 seconds")
    find_session(database, key)
    assert used() > first  # type: ignore[operator]


def test_another_role_holds_from_the_next_request_on(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada", UserRole.ADMIN)
    key = add_session(database, "ada")
    set_role(database, "ada", UserRole.VIEWER, STACK_OWNER)
    found = find_session(database, key)
    assert found is not None
    assert found.role == UserRole.VIEWER


def test_a_session_of_a_handed_over_password_is_provisional(database: Database) -> None:
    add_account(database, "ada", UserRole.ADMIN, STACK_OWNER)
    found = find_session(database, add_session(database, "ada"))
    assert found is not None
    assert found.is_provisional


def test_people_end_their_own_sessions_alone(database: Database) -> None:
    for name in ("ada", "bob"):
        add_person(database, name)
    key = add_session(database, "ada")
    (session,) = list_sessions(database, "ada")
    end_session(database, Actor(name="bob"), session.id)
    assert find_session(database, key) is not None
    end_session(database, Actor(name="ada"), session.id)
    assert find_session(database, key) is None
    assert [(each.name, each.action) for each in audit_of(database)] == [("ada", "session-ended"), ("ada", "sign-in")]


def test_one_person_has_so_many_sessions_and_the_oldest_ends(database: Database) -> None:
    add_person(database, "ada")
    first, *_, newest = [add_session(database, "ada") for _ in range(MOST + 1)]
    assert len(list_sessions(database, "ada")) == MOST
    assert find_session(database, first) is None
    assert find_session(database, newest) is not None


def test_what_a_browser_says_of_itself_is_kept_on_one_line(database: Database) -> None:
    add_person(database, "ada")
    open_session(database, Actor(name="ada", address="192.0.2.7"), "x\r\n\x1b[31m" + "y" * 999, "password")
    (session,) = list_sessions(database, "ada")
    assert session.browser.startswith("x[31my")
    assert len(session.browser) == 200

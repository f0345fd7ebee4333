"""Accounts in a real PostgreSQL."""

import threading
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from sqlalchemy import text

from infra.accounts.bootstrap import STACK_OWNER, ensure_accounts
from infra.accounts.database import MIGRATIONS, Database, migrate
from infra.accounts.errors import AccountError, DatabaseAwayError
from infra.accounts.passwords import is_password
from infra.accounts.people import (
    add_account,
    change_password,
    ensure_known_person,
    find_account,
    list_accounts,
    read_password,
    remove_account,
    reset_password,
    set_disabled,
    set_role,
)
from infra.accounts.roles import UserRole
from infra.accounts.sessions import find_session
from infra.accounts.tokens import find_token
from infra.stack_settings import StackSettings
from tests.infra.accounts.populations import add_person, add_session, add_token, audit_of, pass_time

REMOVALS: dict[str, Callable[[Database, str], None]] = {
    "remove": lambda database, name: remove_account(database, name, STACK_OWNER),
    "disable": lambda database, name: set_disabled(database, name, STACK_OWNER, disabled=True),
    "lower": lambda database, name: set_role(database, name, UserRole.OPERATOR, STACK_OWNER),
}


def test_the_first_admin_is_made_once_and_has_the_password_of_the_environment_file(
    accounts_settings: StackSettings, database: Database
) -> None:
    assert ensure_accounts(accounts_settings)
    assert not ensure_accounts(accounts_settings)
    password = accounts_settings.person_environment["STUDIO_ADMIN_PASSWORD"]
    assert [(each.name, each.role) for each in list_accounts(database)] == [("admin", UserRole.ADMIN)]
    assert is_password(password, read_password(database, "admin"))
    assert [(each.name, each.action, each.detail) for each in audit_of(database)] == [
        ("studio", "account-added", "admin as admin")
    ]


def test_a_password_that_is_handed_over_holds_for_seven_days(database: Database) -> None:
    password = add_account(database, "ada", UserRole.VIEWER, STACK_OWNER)
    assert is_password(password, read_password(database, "ada"))
    account = find_account(database, "ada")
    assert account is not None
    assert account.password_until is not None
    pass_time(database, "accounts", "password_until", "7 days")
    assert read_password(database, "ada") is None


def test_a_name_is_taken_once(database: Database) -> None:
    add_account(database, "ada", UserRole.VIEWER, STACK_OWNER)
    with pytest.raises(AccountError, match="Expected a name that is free, found 'ada'"):
        add_account(database, "ada", UserRole.ADMIN, STACK_OWNER)
    assert [each.role for each in list_accounts(database)] == [UserRole.VIEWER]
    assert len(audit_of(database)) == 1


@pytest.mark.parametrize("way", REMOVALS)
def test_the_last_admin_stays_one(database: Database, way: str) -> None:
    add_person(database, "ada", UserRole.ADMIN)
    add_person(database, "bob", UserRole.ADMIN)
    REMOVALS[way](database, "bob")
    with pytest.raises(AccountError, match="at least one admin"):
        REMOVALS[way](database, "ada")
    account = find_account(database, "ada")
    assert account is not None
    assert (account.role, account.disabled) == (UserRole.ADMIN, False)
    assert len(audit_of(database)) == 1


def test_two_admins_who_remove_each_other_at_once_leave_one(database: Database) -> None:
    for _ in range(10):
        with database.transaction() as connection:
            connection.execute(text("DELETE FROM accounts"))
        for name in ("ada", "bob"):
            add_person(database, name, UserRole.ADMIN)
        start, refused = threading.Barrier(2), list[str]()

        def remove(name: str, start: threading.Barrier = start, refused: list[str] = refused) -> None:
            start.wait()
            try:
                remove_account(database, name, STACK_OWNER)
            except AccountError:
                refused.append(name)

        threads = [threading.Thread(target=remove, args=(name,)) for name in ("ada", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [each.name for each in list_accounts(database)] == refused
        assert len(refused) == 1


def test_a_password_that_is_reset_ends_sessions_and_tokens(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada")
    session, token = add_session(database, "ada"), add_token(database, "ada")
    reset_password(database, "ada", STACK_OWNER)
    assert (find_session(database, session), find_token(database, token)) == (None, None)


def test_a_password_that_is_changed_ends_sessions_and_no_tokens(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    actor = add_person(database, "ada")
    session, token = add_session(database, "ada"), add_token(database, "ada")
    change_password(database, "ada", "another password of hers", actor)
    assert find_session(database, session) is None
    assert find_token(database, token) is not None


@pytest.mark.parametrize("way", ["remove", "disable"])
def test_an_account_that_is_shut_opens_nothing(database: Database, way: str) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada")
    session, token = add_session(database, "ada"), add_token(database, "ada")
    REMOVALS[way](database, "ada")
    assert (find_session(database, session), find_token(database, token)) == (None, None)
    assert read_password(database, "ada") is None


def test_a_session_does_not_begin_for_an_account_that_was_shut_meanwhile(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada")
    set_disabled(database, "ada", STACK_OWNER, disabled=True)
    with pytest.raises(AccountError, match="may sign in"):
        add_session(database, "ada")


def test_a_change_of_an_account_that_is_not_there_is_refused(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    for change in REMOVALS.values():
        with pytest.raises(AccountError, match="none of name 'x'"):
            change(database, "x")
    with pytest.raises(AccountError, match="none of name 'x'"):
        reset_password(database, "x", STACK_OWNER)


def test_a_person_of_a_provider_gets_the_role_of_today(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    for role in (UserRole.VIEWER, UserRole.OPERATOR):
        ensure_known_person(database, "ada", role, ("https://idp", "1"), STACK_OWNER)
        account = find_account(database, "ada")
        assert account is not None
        assert account.role == role
    assert read_password(database, "ada") is None
    assert [each.action for each in audit_of(database)] == ["role-changed", "account-added"]


@pytest.mark.parametrize("identity", [("https://idp", "2"), ("https://other", "1")])
def test_nobody_of_a_provider_takes_the_account_of_another(database: Database, identity: tuple[str, str]) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    ensure_known_person(database, "ada", UserRole.VIEWER, ("https://idp", "1"), STACK_OWNER)
    for name in ("ada", "boss"):
        with pytest.raises(AccountError, match="somebody else"):
            ensure_known_person(database, name, UserRole.ADMIN, identity, STACK_OWNER)
    assert [(each.name, each.issuer) for each in list_accounts(database)] == [("ada", "https://idp"), ("boss", None)]


def test_tables_of_the_release_before_take_workers(accounts_settings: StackSettings) -> None:
    with closing(psycopg2.connect(f"{accounts_settings.database_url}/postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE earlier")
    database = Database(f"{accounts_settings.accounts_url.removesuffix('/studio')}/earlier")
    try:
        with database.transaction() as connection:
            connection.execute(text("CREATE TABLE schema_version (version int NOT NULL)"))
            for statement in MIGRATIONS[0]:
                connection.execute(text(statement))
            connection.execute(text("INSERT INTO schema_version VALUES (1)"))
        add_person(database, "boss", UserRole.ADMIN)
        with pytest.raises(DatabaseAwayError, match="CheckViolation"):
            add_account(database, "gpu-7", UserRole.WORKER, STACK_OWNER)
        for _ in range(2):
            migrate(database)
        add_account(database, "gpu-7", UserRole.WORKER, STACK_OWNER)
        assert [(each.name, each.role) for each in list_accounts(database)] == [
            ("boss", UserRole.ADMIN),
            ("gpu-7", UserRole.WORKER),
        ]
    finally:
        database.close()


def test_tables_of_a_later_release_are_refused(database: Database) -> None:
    migrate(database)
    with database.transaction() as connection:
        connection.execute(text("INSERT INTO schema_version VALUES (:later)"), {"later": len(MIGRATIONS) + 1})
    try:
        with pytest.raises(AccountError, match=f"found version {len(MIGRATIONS) + 1}. A later release"):
            migrate(database)
    finally:
        with database.transaction() as connection:
            connection.execute(text("DELETE FROM schema_version WHERE version > :known"), {"known": len(MIGRATIONS)})


def test_a_database_that_is_away_is_told_in_words() -> None:
    away = Database("postgresql+psycopg2://postgres:secret@127.0.0.1:1/studio")
    with pytest.raises(DatabaseAwayError, match="Expected an answer of the database of accounts") as caught:
        list_accounts(away)
    assert caught.value.transient
    assert "secret" not in str(caught.value)

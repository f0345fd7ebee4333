"""Signing in with a password, and guessing at it, against a real PostgreSQL."""

from dataclasses import replace

import pytest

from infra.accounts import sign_in
from infra.accounts.audit import Actor
from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.errors import DatabaseAwayError, RefusedSignInError, TooManyAttemptsError
from infra.accounts.people import set_disabled
from infra.accounts.roles import UserRole
from infra.accounts.sessions import find_session
from infra.accounts.sign_in import SignIn
from tests.infra.accounts.populations import PASSWORD, add_person, audit_of

HOME = Actor(name="", address="192.0.2.7", request_id="r1")


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are compared without their slow hash, for tests of many attempts."""
    monkeypatch.setattr(sign_in, "is_password", lambda given, kept: kept is not None and given == PASSWORD)


def guess(signing: SignIn, name: str, address: str) -> None:
    with pytest.raises(RefusedSignInError):
        signing.open_session(name, "a guess", replace(HOME, address=address), "")


def test_name_and_password_begin_a_session(database: Database) -> None:
    add_person(database, "ada")
    session = find_session(database, SignIn(database).open_session("ada", PASSWORD, HOME, "a browser"))
    assert session is not None
    assert session.name == "ada"
    (entry,) = audit_of(database)
    assert (entry.name, entry.role, entry.action, entry.allowed) == ("ada", "operator", "sign-in", True)
    assert (entry.address, entry.request_id) == ("192.0.2.7", "r1")


@pytest.mark.usefixtures("cheap")
def test_whatever_is_wrong_is_refused_in_the_same_words(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    for name in ("ada", "bob"):
        add_person(database, name)
    set_disabled(database, "bob", STACK_OWNER, disabled=True)
    messages = set()
    for name, password in [("ada", "x"), ("bob", PASSWORD), ("cyd", PASSWORD), ("", ""), ("a\x00b", "\x00")]:
        with pytest.raises(RefusedSignInError) as caught:
            SignIn(database).open_session(name, password, HOME, "")
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.usefixtures("cheap")
def test_what_is_typed_as_a_name_is_not_kept_unless_it_is_one(database: Database) -> None:
    add_person(database, "ada")
    for name in ("ada", PASSWORD):
        guess(SignIn(database), name, "192.0.2.7")
    assert [(each.name, each.allowed) for each in audit_of(database)] == [("(unknown)", False), ("ada", False)]
    assert PASSWORD not in str(audit_of(database))


@pytest.mark.usefixtures("cheap")
def test_five_guesses_at_a_name_are_taken_from_one_address(database: Database) -> None:
    add_person(database, "ada")
    signing = SignIn(database)
    for _ in range(5):
        guess(signing, "ada", "192.0.2.66")
    with pytest.raises(TooManyAttemptsError) as caught:
        signing.open_session("ada", PASSWORD, replace(HOME, address="192.0.2.66"), "")
    assert 0 < caught.value.wait_s <= 301
    assert len(audit_of(database)) == 5
    assert signing.open_session("ada", PASSWORD, HOME, "")


@pytest.mark.usefixtures("cheap")
def test_many_names_are_guessed_at_from_one_address_thirty_times(database: Database) -> None:
    signing = SignIn(database)
    for number in range(30):
        guess(signing, f"n{number}", "2001:db8::1")
    with pytest.raises(TooManyAttemptsError):
        signing.open_session("another", "x", replace(HOME, address="2001:db8::2"), "")


@pytest.mark.usefixtures("cheap")
def test_who_has_signed_in_from_home_is_not_locked_out_there_by_guesses_from_everywhere(database: Database) -> None:
    add_person(database, "ada")
    signing = SignIn(database)
    signing.open_session("ada", PASSWORD, HOME, "")
    for number in range(20):
        guess(signing, "ada", f"198.51.100.{number}")
    with pytest.raises(TooManyAttemptsError):
        signing.open_session("ada", PASSWORD, replace(HOME, address="203.0.113.1"), "")
    assert signing.open_session("ada", PASSWORD, HOME, "")


@pytest.mark.usefixtures("cheap")
def test_right_passwords_are_no_failures(database: Database) -> None:
    add_person(database, "ada")
    signing = SignIn(database)
    for _ in range(40):
        signing.open_session("ada", PASSWORD, HOME, "")


def test_without_the_database_nobody_signs_in() -> None:
    away = Database("postgresql+psycopg2://postgres:x@127.0.0.1:1/studio")
    with pytest.raises(DatabaseAwayError):
        SignIn(away).open_session("ada", PASSWORD, HOME, "")

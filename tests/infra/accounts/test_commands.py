"""`studio users` and `studio audit`, against a real PostgreSQL."""

import json
import re

import pytest
from typer.testing import CliRunner, Result

from infra.accounts.database import Database
from infra.accounts.passwords import is_password
from infra.accounts.people import find_account, read_password
from infra.accounts.roles import UserRole
from infra.accounts.sessions import find_session
from infra.person_keys import read_keys
from infra.stack_settings import StackSettings
from studio.cli import app
from tasks.errors import StudioError
from tests.infra.accounts.populations import add_person, add_session, audit_of


@pytest.fixture(autouse=True)
def _the_stack(monkeypatch: pytest.MonkeyPatch, accounts_settings: StackSettings, database: Database) -> None:
    """The one whose database runs, with an admin."""
    monkeypatch.setenv("STUDIO_STATE_DIR", str(accounts_settings.state_dir))
    monkeypatch.setenv("STUDIO_POSTGRES_PORT", str(accounts_settings.postgres_port))
    monkeypatch.setenv("STUDIO_PUBLIC", "true")
    add_person(database, "boss", UserRole.ADMIN)


def studio(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_an_account_is_made_changed_and_removed_on_the_machine(
    accounts_settings: StackSettings, database: Database
) -> None:
    made = studio("users", "add", "ada", "--role", "viewer")
    assert re.fullmatch(r"(?:[0-9a-f]{8}-){3}[0-9a-f]{8}\n", made.stdout)
    assert is_password(made.stdout.strip(), read_password(database, "ada"))
    assert "hand it over to ada" in made.stderr
    session = add_session(database, "ada")
    studio("users", "set-role", "ada", "--role", "operator")
    account = find_account(database, "ada")
    assert account is not None
    assert account.role == UserRole.OPERATOR
    studio("users", "disable", "ada")
    assert find_session(database, session) is None
    studio("users", "enable", "ada")
    studio("users", "s3-key", "ada")
    again = json.loads(studio("users", "reset-password", "ada", "--json").stdout)
    assert "ada" not in read_keys(accounts_settings)
    assert is_password(again["password"], read_password(database, "ada"))
    assert [each["name"] for each in json.loads(studio("users", "--json").stdout)] == ["ada", "boss"]
    assert "has not chosen a password" in studio("users").stdout
    studio("users", "add", "gpu-7", "--role", "worker")
    assert re.search(r"gpu-7 +│ worker +│ active", studio("users").stdout)  # a machine chooses none
    studio("users", "remove", "ada")
    assert find_account(database, "ada") is None
    assert {(each.name, each.address) for each in audit_of(database) if each.action != "sign-in"} == {("studio", "")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("remove", "boss"),
        ("disable", "boss"),
        ("set-role", "boss", "--role", "viewer"),
        ("remove", "x"),
        ("add", "boss", "--role", "viewer"),
        ("add", "A", "--role", "viewer"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_words(database: Database, arguments: tuple[str, ...]) -> None:
    refused = studio("users", *arguments)
    assert isinstance(refused.exception, StudioError)
    assert str(refused.exception).startswith("Expected")
    assert find_account(database, "boss") is not None
    assert audit_of(database) == []


def test_a_role_that_is_none_is_a_wrong_argument() -> None:
    refused = studio("users", "add", "ada", "--role", "owner")
    said = re.sub(r"[\s│]+", " ", refused.stderr)  # a box of several lines
    assert (refused.exit_code, "one of viewer, operator, worker, admin" in said) == (2, True)


def test_the_audit_log_is_read_by_name_part_and_day(database: Database) -> None:
    add_person(database, "ada")
    add_session(database, "ada")
    studio("users", "add", "cyd", "--role", "viewer")
    assert [each["name"] for each in json.loads(studio("audit", "--json").stdout)] == ["studio", "ada"]
    assert [each["action"] for each in json.loads(studio("audit", "--user", "ada", "--json").stdout)] == ["sign-in"]
    assert json.loads(studio("audit", "--part", "mlflow", "--json").stdout) == []
    assert json.loads(studio("audit", "--since", "2999-01-01", "--json").stdout) == []
    assert isinstance(studio("audit", "--since", "yesterday").exception, StudioError)
    shown = studio("audit", "--limit", "1")
    assert ("account-added cyd as viewer" in shown.stdout, "the newest 1" in shown.stderr) == (True, True)


@pytest.mark.parametrize("arguments", [("users",), ("audit",), ("users", "add", "ada", "--role", "viewer")], ids=str)
def test_a_stack_without_accounts_says_how_to_have_them(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("STUDIO_PUBLIC", "false")
    assert "make up PUBLIC=1" in str(studio(*arguments).exception)


def test_a_database_that_is_away_is_told_as_a_service_that_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_POSTGRES_PORT", "1")
    failed = studio("users").exception
    assert isinstance(failed, StudioError)
    assert failed.transient

"""Keys of the object store for accounts, against a real PostgreSQL; the store itself is in test_front_door.py."""

import json

import pytest
from typer.testing import CliRunner

from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.people import find_account, remove_account, set_disabled, set_role
from infra.accounts.roles import UserRole
from infra.accounts.store_keys import follow, role_of
from infra.person_keys import read_keys
from infra.stack_settings import StackSettings
from studio.cli import app
from tasks.errors import StudioError
from tests.infra.accounts.database import free_port
from tests.infra.accounts.populations import add_person

pytestmark = pytest.mark.usefixtures("_stack_with_accounts")


def test_a_key_is_shown_once_and_is_taken_away(
    accounts_settings: StackSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_S3_PORT", str(free_port()))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)  # of the stack of all tests
    add_person(database, "vera", UserRole.VIEWER)
    shown = json.loads(CliRunner().invoke(app, ["users", "s3-key", "vera", "--json"]).stdout)
    made = read_keys(accounts_settings)["vera"]
    assert made.role is UserRole.VIEWER
    assert (shown["AWS_ACCESS_KEY_ID"], shown["AWS_SECRET_ACCESS_KEY"]) == (made.key, made.secret)
    assert shown["AWS_ENDPOINT_URL"].startswith("https://studio.example.org:")
    said = [CliRunner().invoke(app, ["users", "s3-key", "vera", "--take"]).stdout for _ in range(2)]
    assert said[0].startswith("vera: the key is taken, but not tried: the object store does not answer")
    assert said[1] == "vera: no key of the object store is known\n"
    assert "vera" not in read_keys(accounts_settings)


@pytest.mark.parametrize(
    ("command", "left"),
    [(("disable",), None), (("remove",), None), (("set-role", "--role", "viewer"), UserRole.VIEWER)],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_a_command_has_the_keys_follow_while_no_front_page_runs(
    accounts_settings: StackSettings, database: Database, command: tuple[str, ...], left: UserRole | None
) -> None:
    add_person(database, "gone", UserRole.OPERATOR)
    CliRunner().invoke(app, ["users", "s3-key", "gone"])
    done = CliRunner().invoke(app, ["users", command[0], "gone", *command[1:]])
    assert done.exit_code == 0
    key = read_keys(accounts_settings).get("gone")
    assert (key and key.role) == left


def test_a_key_that_cannot_be_taken_is_told_with_what_was_done(
    accounts_settings: StackSettings, database: Database
) -> None:
    add_person(database, "gone", UserRole.OPERATOR)
    CliRunner().invoke(app, ["users", "s3-key", "gone"])
    place = accounts_settings.state_dir / ".s3.json.part"
    place.mkdir()
    try:
        refused = CliRunner().invoke(app, ["users", "disable", "gone"])
    finally:
        place.rmdir()
    assert str(refused.exception).startswith("gone is disabled, but its keys of the object store are as they were: ")
    account = find_account(database, "gone")
    assert account is not None
    assert account.disabled
    follow(accounts_settings, database)
    assert "gone" not in read_keys(accounts_settings)


def test_keys_follow_their_accounts(accounts_settings: StackSettings, database: Database) -> None:
    for name in ("lowered", "shut", "removed"):
        add_person(database, name, UserRole.OPERATOR)
        CliRunner().invoke(app, ["users", "s3-key", name])
    set_role(database, "lowered", UserRole.VIEWER, STACK_OWNER)
    set_disabled(database, "shut", STACK_OWNER, disabled=True)
    remove_account(database, "removed", STACK_OWNER)
    follow(accounts_settings, database)
    assert {name: key.role for name, key in read_keys(accounts_settings).items()} == {"lowered": UserRole.VIEWER}


def test_a_database_that_is_away_changes_no_key(
    accounts_settings: StackSettings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    add_person(database, "vera", UserRole.OPERATOR)
    CliRunner().invoke(app, ["users", "s3-key", "vera"])
    known = read_keys(accounts_settings)
    follow(accounts_settings, Database("postgresql+psycopg2://postgres:x@127.0.0.1:1/studio"))
    assert read_keys(accounts_settings) == known
    assert "do not follow the accounts now" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nobody", "shut"])
def test_who_has_no_open_account_gets_no_key(database: Database, name: str) -> None:
    add_person(database, "shut", UserRole.OPERATOR)
    set_disabled(database, "shut", STACK_OWNER, disabled=True)
    with pytest.raises(StudioError, match="Expected an account that is open"):
        role_of(database, name)

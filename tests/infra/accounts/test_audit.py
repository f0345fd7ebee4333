"""The audit log in a real PostgreSQL."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from infra.accounts.audit import (
    Actor,
    AuditChoice,
    AuditEntry,
    RecordedEntry,
    forget_entries,
    list_entries,
    record_alone,
)
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.people import remove_account
from infra.stack_settings import StackSettings
from tests.infra.accounts.populations import audit_of, pass_time


def entry(name: str = "ada", part: str = "prefect", *, path: str = "/x", allowed: bool = True) -> AuditEntry:
    actor = Actor(name=name, role="operator", address="192.0.2.7", request_id="1")
    return AuditEntry(actor=actor, part=part, action="request", method="POST", path=path, allowed=allowed)


def names(database: Database, choice: AuditChoice, before: int | None = None, limit: int = 100) -> list[str]:
    return [each.name for each in list_entries(database, choice, before=before, limit=limit)]


def test_entries_are_chosen_by_each_filter_and_by_all(database: Database) -> None:
    for each in (entry("ada"), entry("bob", allowed=False), entry("cyd", "mlflow")):
        record_alone(database, each)
    assert names(database, AuditChoice()) == ["cyd", "bob", "ada"]
    assert names(database, AuditChoice(name="bob")) == ["bob"]
    assert names(database, AuditChoice(part="prefect")) == ["bob", "ada"]
    assert names(database, AuditChoice(part="prefect", allowed=True)) == ["ada"]
    assert names(database, AuditChoice(name="' OR true --")) == []
    now = datetime.now(UTC)
    assert names(database, AuditChoice(since=now - timedelta(hours=1))) == ["cyd", "bob", "ada"]
    assert names(database, AuditChoice(since=now + timedelta(hours=1))) == []


def test_pages_follow_each_other_while_entries_come(database: Database) -> None:
    for number in range(5):
        record_alone(database, entry(f"n{number}"))
    first = list_entries(database, AuditChoice(), before=None, limit=2)
    record_alone(database, entry("new"))
    assert names(database, AuditChoice(), first[-1].id, 2) == ["n2", "n1"]


def test_what_comes_from_outside_is_one_line_in_table_and_log(accounts_settings: StackSettings) -> None:
    lines: list[str] = []
    database = Database(accounts_settings.accounts_url, lines.append)
    record_alone(database, entry(path="/a\r\n\x1b[31m\x00\ud800" + "b" * 9999))
    (kept,) = (each for each in audit_of(database)[:1])
    assert kept.path.startswith("/a\ufffd\ufffd\ufffd[31m\ufffd\ufffdb")
    assert len(kept.path) == 500
    (line,) = lines
    assert line.isprintable()
    assert json.loads(line)["audit"]["path"] == kept.path


def test_nothing_is_told_that_was_not_kept(accounts_settings: StackSettings) -> None:
    lines: list[str] = []
    database = Database(accounts_settings.accounts_url, lines.append)
    with pytest.raises(AccountError):
        remove_account(database, "nobody", Actor(name="ada"))
    assert lines == []


def test_entries_are_kept_for_so_many_days(database: Database) -> None:
    record_alone(database, entry("old"))
    pass_time(database, "audit", "time", "10 days")
    record_alone(database, entry("new"))
    assert forget_entries(database, 11) == 0
    assert forget_entries(database, 10) == 1
    assert [isinstance(each, RecordedEntry) and each.name for each in audit_of(database)] == ["new"]

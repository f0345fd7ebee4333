"""The audit log: who signed in, what accounts and tokens became, and who asked for what that changes something."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from infra.accounts.database import LINES, Database

_LONGEST = 500  # characters of a text that comes from outside
_COLUMNS = ("name", "role", "part", "action", "allowed", "detail", "method", "path", "address", "request_id")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who does something, in which role, from where, and the id of the request; a role may be empty: not known."""

    name: str
    role: str = ""
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One thing that somebody did or tried; `part` is that of the address: studio, prefect, mlflow, or accounts."""

    actor: Actor
    part: str
    action: str
    allowed: bool = True
    detail: str = ""
    method: str = ""
    path: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The columns, with texts of a length and of characters that a line of a log can have."""
        flat = {**asdict(self.actor), **{name: value for name, value in vars(self).items() if name != "actor"}}
        return {name: _storable(value) for name, value in flat.items()}


@dataclass(frozen=True, kw_only=True)
class RecordedEntry:
    """An entry as it was kept, with its number and its time."""

    id: int
    time: datetime
    name: str
    role: str
    part: str
    action: str
    allowed: bool
    detail: str
    method: str
    path: str
    address: str
    request_id: str


@dataclass(frozen=True, kw_only=True)
class AuditChoice:
    """Which entries are listed: all fields that are not None hold of each."""

    name: str | None = None
    part: str | None = None
    since: datetime | None = None
    allowed: bool | None = None


def record(connection: Connection, entry: AuditEntry) -> None:
    """Keep an entry in the transaction of what it tells: none of the two is there without the other."""
    columns, places = ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
    connection.execute(text(f"INSERT INTO audit ({columns}) VALUES ({places})"), entry.values)  # noqa: S608
    connection.info[LINES].append(log_line(entry))


def record_alone(database: Database, entry: AuditEntry) -> None:
    """Keep an entry.

    Raises:
        DatabaseAwayError: It is not kept, so what it tells must not happen.
    """
    with database.transaction() as connection:
        record(connection, entry)


def log_line(entry: AuditEntry) -> str:
    """Return an entry as one line of JSON."""
    return json.dumps({"audit": entry.values}, ensure_ascii=True)


def list_entries(database: Database, choice: AuditChoice, *, before: int | None, limit: int) -> list[RecordedEntry]:
    """Return the newest entries of a choice, at most `limit`; `before` is the number of the last one known."""
    conditions = {
        "name = :name": choice.name is not None,
        "part = :part": choice.part is not None,
        "time >= :since": choice.since is not None,
        "allowed = :allowed": choice.allowed is not None,
        "id < :before": before is not None,
    }
    chosen = " AND ".join(["true", *(condition for condition, holds in conditions.items() if holds)])
    query = text(f"SELECT * FROM audit WHERE {chosen} ORDER BY id DESC LIMIT :limit")  # noqa: S608 - texts of ours
    values: dict[str, object] = {name: _storable(value) for name, value in vars(choice).items()}
    values |= {"before": before, "limit": limit}
    with database.transaction() as connection:
        return [RecordedEntry(**row) for row in connection.execute(query, values).mappings()]


def forget_entries(database: Database, days: int) -> int:
    """Remove what is older than `days` days; return how many entries that were."""
    query = text("DELETE FROM audit WHERE time < now() - make_interval(days => :days)")
    with database.transaction() as connection:
        return connection.execute(query, {"days": days}).rowcount


def _storable(value: object) -> object:
    """A value; a text without what could end a line, colour a terminal or be none for PostgreSQL."""
    if not isinstance(value, str):
        return value
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value)[:_LONGEST]

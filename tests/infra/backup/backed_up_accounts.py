"""A backup that has accounts, from a PostgreSQL server of its own."""

import contextlib
import json
from pathlib import Path

import psycopg2

from infra.accounts.database import Database, migrate
from infra.backup import databases
from infra.backup.manifests import BackupFolder
from infra.stack_settings import StackSettings
from tests.infra.accounts.populations import add_person, add_session, add_token


def ask(server: StackSettings, database: str, statement: str) -> list[tuple[object, ...]]:
    """Return the rows that a statement gives, which may be none."""
    with contextlib.closing(psycopg2.connect(f"{server.database_url}/{database}")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def add_accounts(backups: Path, server: StackSettings) -> None:
    """Have a database of accounts in the backup, with a session and a token."""
    ask(server, "postgres", "CREATE DATABASE studio")
    with contextlib.closing(Database(server.accounts_url)) as accounts:
        migrate(accounts)
        add_person(accounts, "ada")
        add_session(accounts, "ada")
        add_token(accounts, "ada")
    folder = BackupFolder(backups)
    for path in backups.iterdir():
        path.chmod(0o700)
    with folder.written(), databases.open_snapshots(server, ["studio"]) as snapshots:
        blob = folder.blobs.add(databases.dump(server, "studio", snapshots["studio"]))
    (path,) = (backups / "backups").glob("*.json")
    written = json.loads(path.read_text())
    written["databases"]["studio"] = blob.model_dump()
    path.write_text(json.dumps(written))
    ask(server, "postgres", "DROP DATABASE studio")

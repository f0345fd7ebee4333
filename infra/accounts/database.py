"""The database of accounts: PostgreSQL, its tables by version, and transactions that fail in words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from infra.accounts.errors import AccountError, DatabaseAwayError
from tasks.errors import expected_found_fix

# Each brings the tables from the version of its place to the next. What has been released is never changed.
MIGRATIONS = (
    (
        """
        CREATE TABLE accounts (
            name text PRIMARY KEY,
            role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
            password text,
            password_until timestamptz,
            disabled boolean NOT NULL DEFAULT false,
            made timestamptz NOT NULL DEFAULT now(),
            made_by text NOT NULL,
            issuer text,
            subject text,
            UNIQUE (issuer, subject)
        )
        """,
        """
        CREATE TABLE sessions (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            digest text NOT NULL UNIQUE,
            account text NOT NULL REFERENCES accounts ON DELETE CASCADE,
            made timestamptz NOT NULL DEFAULT now(),
            used timestamptz NOT NULL DEFAULT now(),
            address text NOT NULL,
            browser text NOT NULL
        )
        """,
        "CREATE INDEX ON sessions (account)",
        """
        CREATE TABLE tokens (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            digest text NOT NULL UNIQUE,
            account text NOT NULL REFERENCES accounts ON DELETE CASCADE,
            name text NOT NULL,
            role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
            made timestamptz NOT NULL DEFAULT now(),
            expires timestamptz NOT NULL,
            used timestamptz,
            UNIQUE (account, name)
        )
        """,
        """
        CREATE TABLE audit (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            time timestamptz NOT NULL DEFAULT now(),
            name text NOT NULL,
            role text NOT NULL,
            part text NOT NULL,
            action text NOT NULL,
            allowed boolean NOT NULL,
            detail text NOT NULL,
            method text NOT NULL,
            path text NOT NULL,
            address text NOT NULL,
            request_id text NOT NULL
        )
        """,
        "CREATE INDEX ON audit (time)",
        "CREATE INDEX ON audit (name, id)",
    ),
    tuple(
        f"ALTER TABLE {table} DROP CONSTRAINT {table}_role_check, "
        f"ADD CONSTRAINT {table}_role_check CHECK (role IN ('viewer', 'operator', 'worker', 'admin'))"
        for table in ("accounts", "tokens")
    ),
)
_MIGRATING = 7_386_203_412_877  # the number of the lock, which nothing else here takes
LINES = "lines of the audit log"  # of a transaction, until it is kept
_OPTIONS = "-c statement_timeout=5000 -c lock_timeout=3000 -c timezone=UTC"  # milliseconds


class Database:
    """The database at an address such as `postgresql+psycopg2://user:password@host:port/studio`; threads share it.

    `tell` gets a line for each entry of the audit log, once it is kept.
    """

    def __init__(self, url: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        arguments = {"connect_timeout": 3, "options": _OPTIONS}
        self._engine = create_engine(
            url, pool_size=4, max_overflow=12, pool_timeout=5, pool_pre_ping=True, connect_args=arguments
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection; all that is done with it is kept at the end of the block, or nothing after an error.

        Raises:
            DatabaseAwayError: The database does not answer, or keeps nothing more.
        """
        try:
            with self._engine.begin() as connection:
                lines = connection.info[LINES] = []
                yield connection
        except SQLAlchemyError as error:
            raise DatabaseAwayError(
                expected_found_fix(
                    "an answer of the database of accounts",
                    type(getattr(error, "orig", None) or error).__name__,
                    "Nothing was changed. `studio status` shows whether PostgreSQL is well; if so, look at its disk.",
                )
            ) from error
        for line in lines:
            self._tell(line)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def migrate(database: Database) -> None:
    """Make the tables, or bring those of an earlier release up to date; all of it or nothing.

    Raises:
        AccountError: They are of a later release.
    """
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version int NOT NULL)"))
        version = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
        if version > len(MIGRATIONS):
            raise AccountError(
                expected_found_fix(
                    f"tables of accounts of version {len(MIGRATIONS)} or less",
                    f"version {version}",
                    "A later release has made them: start that one.",
                )
            )
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            for statement in statements:
                connection.execute(text(statement))
            connection.execute(text("INSERT INTO schema_version VALUES (:version)"), {"version": number})

"""Databases and buckets: each step adds only the missing ones. Without Prefect, whose server waits for the first."""

import contextlib
from typing import TYPE_CHECKING

import psycopg2
from botocore.exceptions import ClientError

from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import ACCOUNTS_USER, METRICS_USER, StackSettings
from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def ensure_databases(settings: StackSettings) -> None:
    """Make the databases of Prefect, of MLflow, and of the accounts if there are any."""
    wanted = {"prefect", "mlflow"} | ({"studio"} if settings.public else set())
    with contextlib.closing(psycopg2.connect(settings.database_url + "/postgres", connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            for name in wanted - {row[0] for row in cursor.fetchall()}:
                cursor.execute(f"CREATE DATABASE {name}")
            if settings.metrics and settings.owns_postgres:
                _ensure_user(
                    cursor, METRICS_USER, settings.secrets["metrics_postgres"], "CONNECTION LIMIT 5 IN ROLE pg_monitor"
                )
            if settings.public and settings.is_container:
                _ensure_user(cursor, ACCOUNTS_USER, settings.secrets["accounts_postgres"])
                cursor.execute(f"ALTER DATABASE studio OWNER TO {ACCOUNTS_USER}")
                _own_accounts(settings)


def _own_accounts(settings: StackSettings) -> None:
    """Give the tables of accounts that a backup has brought back to their user."""
    with (
        contextlib.closing(psycopg2.connect(settings.database_url + "/studio", connect_timeout=5)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} OWNER TO {ACCOUNTS_USER}")


def _ensure_user(cursor: psycopg2.extensions.cursor, name: str, password: str, limits: str = "") -> None:
    """Make a user of PostgreSQL who reads and writes no table of others, or give it this password."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if cursor.fetchone() is None:
        cursor.execute(f"CREATE ROLE {name} LOGIN {limits}")
    cursor.execute(f"ALTER ROLE {name} PASSWORD %s", [password])


def ensure_buckets(settings: StackSettings) -> None:
    """Make the buckets of the contract; the one of archives keeps old versions of its objects.

    Raises:
        RuntimeError: The object store refuses it.
    """
    client = s3_client(settings, Role.ADMIN)
    for bucket in {*Bucket} - {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        try:
            client.create_bucket(Bucket=bucket)
        except ClientError as error:
            raise RuntimeError(f"Bucket {bucket!r} could not be made: {error} Make it yourself.") from error
    try:
        if client.get_bucket_versioning(Bucket=Bucket.DATASETS).get("Status") != "Enabled":
            client.put_bucket_versioning(Bucket=Bucket.DATASETS, VersioningConfiguration={"Status": "Enabled"})
    except ClientError as error:
        raise RuntimeError(
            f"Bucket {Bucket.DATASETS!r} does not keep versions: {error} Turn its versioning on yourself, "
            "and let this key read that setting."
        ) from error
    require_conditional_writes(client)


def require_conditional_writes(client: "S3Client") -> None:
    """Check that of several flow runs that take a lock, the store lets one succeed.

    Raises:
        RuntimeError: The store does not know conditional writes.
    """
    probe = "locks/conditional-write-probe"
    try:
        client.put_object(Bucket=Bucket.RUNS, Key=probe, Body=b"")
        client.put_object(Bucket=Bucket.RUNS, Key=probe, Body=b"", IfMatch='"another-etag"')
    except ClientError as error:
        if status_of(error) == 412:
            return
        found = str(error)
    else:
        found = "that it is written over"
    raise RuntimeError(
        f"Expected the object store to refuse (412) to replace an object that has changed since, found {found}. Use a "
        f"store with conditional writes (If-Match), such as SeaweedFS, MinIO or S3."
    )

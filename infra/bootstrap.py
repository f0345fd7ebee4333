"""Databases, buckets, work pool, queues, automations and deployments: each step adds only the missing ones."""

import contextlib
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg2
import yaml
from botocore.exceptions import ClientError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import WorkQueueFilter
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from infra import registration
from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import ACCOUNTS_USER, METRICS_USER, ROOT, StackSettings
from infra.supervisord import bin_path
from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POOL_DESCRIPTION = "All flows of YOLO Studio. Workers take a GPU if their machine has one, else the CPU."


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


# With these, who starts a run would choose what the worker runs, and in which environment.
CLOSED_VARIABLES = ("command", "env", "working_dir", "stream_output")


def job_template() -> dict[str, Any]:
    """Return what a deployment or a run may set of its process: name and labels; Prefect refuses anything else."""
    template = ProcessWorker.get_default_base_job_template()
    for name in CLOSED_VARIABLES:
        del template["job_configuration"][name], template["variables"]["properties"][name]
    template["variables"]["additionalProperties"] = False
    return template


def ensure_work_pool(kind: str = "process", template: dict[str, Any] | None = None) -> None:
    """Make the work pool `gpu` and its queues with their limits (deployments/queues.yaml).

    Args:
        kind: Prefect's type of the pool.
        template: What each run is made from; none: that of processes.

    Raises:
        RuntimeError: There is such a pool of another type, which Prefect does not change.
    """
    wanted = yaml.safe_load(registration.QUEUES.read_text())
    template = template or job_template()
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(registration.POOL)
        except ObjectNotFound:
            pool = client.create_work_pool(
                WorkPoolCreate(name=registration.POOL, type=kind, base_job_template=template)
            )
        if pool.type != kind:
            raise RuntimeError(
                f"Expected work pool {registration.POOL!r} to be of type {kind}, found {pool.type}: remove it "
                f"(`prefect work-pool delete {registration.POOL}`), then again."
            )
        update = WorkPoolUpdate(description=POOL_DESCRIPTION, base_job_template=template)
        client.update_work_pool(registration.POOL, update)
        # Every argument is given: the client would send those left out as null, which the server refuses.
        queues = client.read_work_queues(
            work_pool_name=registration.POOL, work_queue_filter=WorkQueueFilter(), limit=200, offset=0
        )
        present = {queue.name: queue.id for queue in queues}
        for name, values in wanted.items():
            if name in present:
                client.update_work_queue(present[name], **values)
            else:
                client.create_work_queue(name=name, work_pool_name=registration.POOL, **values)


async def ensure_automations() -> None:
    """Make or update the automations of deployments/automations.yaml; Prefect would make a second one of a name."""
    wanted = yaml.safe_load(registration.AUTOMATIONS.read_text())
    async with get_client() as client:
        for automation in map(AutomationCore.model_validate, wanted):
            await ensure_automation(client, automation)


async def ensure_automation(client: PrefectClient, automation: AutomationCore) -> None:
    """Make an automation, or update the one of its name."""
    present = await client.read_automations_by_name(automation.name)
    if not present:
        await client.create_automation(automation)
    elif AutomationCore.model_validate(present[0].model_dump(exclude={"id"})) != automation:
        await client.update_automation(present[0].id, automation)


def register_deployments(path: str = "prefect.yaml") -> None:
    """Make or update every deployment of prefect.yaml, or of another file of its kind.

    Raises:
        RuntimeError: `prefect deploy` fails.
    """
    command = [bin_path("prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", path]
    deployed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if deployed.returncode:
        raise RuntimeError(f"The deployments of prefect.yaml were not registered:\n{deployed.stdout}{deployed.stderr}")

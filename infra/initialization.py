"""What `make up` does beside starting services, for a stack of containers: secrets, stores, and what Prefect knows."""

import asyncio
from pathlib import Path

from infra import kubernetes_pool, publish_predict, stores
from infra.command_errors import StackError
from infra.services import s3_client
from infra.stack_settings import SECRETS, USER, StackSettings, new_secret
from tasks.files import write_atomically

OPTIONAL = ("notify", "s3_events_secret")  # a person writes these: empty, there are no messages and no events
# The folder is shut. A file of it is mounted into a container by itself, where another user reads it.
FOLDER_MODE = 0o700
FILE_MODE = 0o444


def make_secrets(folder: Path) -> list[str]:
    """Write a file for each secret that has none, and return their names; those that are there stay as they are.

    Raises:
        StackError: The folder cannot be written, or others may read it.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise StackError(f"expected a folder that nobody else reads, found {folder}: `chmod 700` it first")
        missing = [name for name in SECRETS if not (folder / name).exists()]
        for name in missing:
            _write(folder / name, new_secret())
        for name in OPTIONAL:
            if not (folder / name).exists():
                _write(folder / name, "")
        # As Prefect's own programs take it, such as its worker on Kubernetes.
        _write(folder / "prefect_auth", f"{USER}:{(folder / 'prefect').read_text()}")
    except OSError as error:
        raise StackError(f"expected a folder that can be written for the secrets, found {error}") from error
    return missing


def _write(path: Path, text: str) -> None:
    with write_atomically(path) as unfinished:
        unfinished.write_text(text)
        unfinished.chmod(FILE_MODE)


def initialize_stores(settings: StackSettings) -> None:
    """Make databases, buckets and, with a front door, accounts, and publish model `predict`; what is there stays."""
    # Imported late: without a front door there are no accounts.
    from infra.accounts.bootstrap import ensure_accounts

    stores.ensure_databases(settings)
    if settings.public:
        ensure_accounts(settings)
    stores.ensure_buckets(settings)
    publish_predict.publish(s3_client(settings))


def initialize_prefect(settings: StackSettings) -> None:
    """Make or update work pool, queues, automations, notifications, deployments and pipelines.

    With STUDIO_POOL=kubernetes each run is a job of a cluster, else a process of a worker.
    """
    from infra import bootstrap, notifications, pipelines

    wanted = pipelines.read_pipelines()
    if settings.pool == "kubernetes":
        bootstrap.ensure_work_pool("kubernetes", kubernetes_pool.job_template(settings))
    else:
        bootstrap.ensure_work_pool()
    asyncio.run(bootstrap.ensure_automations())
    asyncio.run(notifications.ensure_notifications(settings))
    if settings.pool == "kubernetes":
        with kubernetes_pool.deployments_file(settings) as path:
            bootstrap.register_deployments(path)
    else:
        bootstrap.register_deployments()
    pipelines.register_pipelines(wanted)

"""Work pool, queues, automations and deployments: each step adds only the missing ones."""

import asyncio
import contextlib
import io
from pathlib import Path
from typing import Any

import yaml
from prefect.cli.deploy._config import _load_deploy_configs_and_actions
from prefect.cli.deploy._core import _run_single_deploy
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import WorkQueueFilter
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker
from rich.console import Console

from infra import registration
from infra.stack_settings import ROOT

POOL_DESCRIPTION = "All flows of YOLO Studio. Workers take a GPU if their machine has one, else the CPU."


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
        RuntimeError: Prefect's server refuses one, or the file has a fault.
    """
    said = io.StringIO()
    try:
        with contextlib.chdir(ROOT):
            asyncio.run(_deploy_all(ROOT / path, Console(file=said)))
    except Exception as error:
        raise RuntimeError(f"The deployments of {path} were not registered: {error}\n{said.getvalue()}") from error


async def _deploy_all(file: Path, console: Console) -> None:
    """Do what `prefect deploy --all` does, which would import Prefect and all flows once more."""
    configs, actions = _load_deploy_configs_and_actions(prefect_file=file, console=console)
    async with get_client() as client:
        for config in configs:
            await _run_single_deploy(
                config, actions, client=client, prefect_file=file, console=console, is_interactive=lambda: False
            )

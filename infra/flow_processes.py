"""The processes of flow runs: each a fork of one that has imported the flows, so that it begins within 0.1 s.

Python's fork server makes them. It shares its memory with them, and goes on without the worker as long as one of them
does. After a file of the checkout has changed, and for a run with variables of its own, a process imports all anew.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import _children  # type: ignore[attr-defined]
from pathlib import Path

import anyio
import psutil
from anyio import TASK_STATUS_IGNORED, to_thread
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.runner._control_channel import ControlChannel
from prefect.runner._process_manager import ProcessHandle, create_isolated_termination_scope
from prefect.settings import get_current_settings
from prefect.utilities.processutils import sanitize_subprocess_env

from infra import engine
from infra.stack_settings import ROOT

_ROOMS = ("flows", "tasks", "infra", "deployments")
_LOOK_S = 0.5
_CONTEXT = multiprocessing.get_context("forkserver")


def begin(*, at_once: bool) -> None:
    """Have a process import the flows, at once or for the first run; a run that comes before it has done so waits."""
    _CONTEXT.set_forkserver_preload(["infra.flow_imports"])
    if at_once:
        forkserver.ensure_running()


def sources() -> Mapping[Path, int]:
    """Return when each file was written that flow runs import, in ns: if another comes out, the imports are old."""
    paths = (path for room in _ROOMS for path in (ROOT / room).rglob("*.py"))
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # it has just gone, or is the lock of an editor: a link to nothing
            found[path] = path.stat().st_mtime_ns
    return found


class ForkStarter:
    """Starts the process of one flow run, as Prefect's executor asks for it."""

    def __init__(self, flow: str, environment: Mapping[str, str | None], control: ControlChannel) -> None:
        """Take the flow's module and function, what the run's environment has beside this process's, and its channel.

        Args:
            flow: As `flows.train_model.train_model`.
            environment: None for what it shall not have.
            control: Over which Prefect tells the run that it is cancelled.
        """
        self._flow = flow
        self._environment = environment
        self._control = control

    async def start(self, flow_run: FlowRun, task_status: TaskStatus[ProcessHandle] = TASK_STATUS_IGNORED) -> None:
        """Start the process, tell its handle, and return when it has ended."""
        process = _CONTEXT.Process(target=engine.run_forked, args=(self._flow, self._environment_of(flow_run)))
        try:
            await to_thread.run_sync(_start, process)
            child = psutil.Process(process.pid)
            while not _leads(child.pid):  # noqa: ASYNC110 - it says nothing when it does
                await anyio.sleep(0.001)
            handle = ProcessHandle(
                process,  # type: ignore[arg-type]  # it asks for no more than a SpawnProcess has in common with it
                termination_scope=create_isolated_termination_scope(child.pid),
            )
            task_status.started(handle)
        except BaseException:
            self._control.unregister(flow_run.id)
            raise
        await anyio.wait_readable(process.sentinel)
        while _goes_on(child):  # noqa: ASYNC110 - if the server of forks is gone, nobody says when one ends
            await anyio.sleep(_LOOK_S)
        process.join()

    def _environment_of(self, flow_run: FlowRun) -> dict[str, str]:
        """What `prefect.runner` gives a process that it starts."""
        port, token = self._control.register(flow_run.id)
        of_run = {
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__FLOW_ENTRYPOINT": self._flow,
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            "PREFECT__CONTROL_PORT": str(port),
            "PREFECT__CONTROL_TOKEN": token,
        }
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        return sanitize_subprocess_env({**os.environ, **settings, **self._environment, **of_run})


def _start(process: ForkServerProcess) -> None:
    process.start()
    _children.discard(process)  # or the next start asks how it ended, in a thread beside us, and our end waits for it


def _leads(process: int) -> bool:
    """Whether a process leads a group of its own, or has ended."""
    try:
        return os.getpgid(process) == process
    except ProcessLookupError:
        return True


def _goes_on(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

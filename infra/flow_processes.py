"""The processes of flow runs: each a fork of one that has imported the flows, so that it begins within 0.1 s.

Python's fork server makes them. It shares its memory with them, and goes on without the worker as long as one of them
does. After a file of the checkout has changed another one imports all anew; a run with variables of its own does so by
itself, as does each run while a flow ends whatever imports it.
"""

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import _children  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import anyio
import psutil
from anyio import TASK_STATUS_IGNORED, to_thread
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.runner._control_channel import ControlChannel
from prefect.runner._flow_run_executor import ProcessStarter
from prefect.runner._process_manager import ProcessHandle, create_isolated_termination_scope
from prefect.settings import get_current_settings
from prefect.utilities.processutils import sanitize_subprocess_env

from infra import engine
from infra.stack_settings import ROOT

LOGGER = logging.getLogger("prefect.worker.studio")
_ROOMS = ("flows", "tasks", "infra", "deployments")
PRELOAD = ["infra.flow_imports"]
_LOOK_S = 0.5
_AGAIN_S = 300.0
_CONTEXT = multiprocessing.get_context("forkserver")
_SERVER: Any = forkserver._forkserver  # noqa: SLF001 - Python has no way to replace one whose imports are old


class ImportsEndedError(Exception):
    """A process that was to import the flows has ended before it had forked a run."""


class Imports:
    """The process that has imported the flows, of which those of runs are forks; it is replaced if files have changed.

    A run that comes before it has imported them waits. Safe to use from several threads.
    """

    def __init__(self) -> None:
        """Remember the files of the checkout as they are now; nothing is imported yet."""
        self._sources = sources()
        self._forks = dict[int, set[ForkServerProcess]]()  # which go on, by the process that they were forked from
        self._former = dict[int, int]()  # those that were replaced, and what each ends by when it is closed
        self._ending = list[int]()
        self._not_before = 0.0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Have a process import the flows now, rather than for the first run."""
        _CONTEXT.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()

    def renew_if_old(self) -> None:
        """After a change of a file, have the next run begin another such process; what the present one has goes on."""
        found = sources()
        if found == self._sources:
            return
        self._sources, self._not_before = found, 0.0
        with _SERVER._lock, self._lock:  # noqa: SLF001
            if _SERVER._forkserver_pid is not None:  # noqa: SLF001
                self._former[_SERVER._forkserver_pid] = _SERVER._forkserver_alive_fd  # noqa: SLF001
                Path(_SERVER._forkserver_address).unlink(missing_ok=True)  # noqa: SLF001
                _SERVER._forkserver_address = _SERVER._forkserver_alive_fd = None  # noqa: SLF001
                _SERVER._forkserver_pid = None  # noqa: SLF001
        self._end_former()

    def are_possible(self) -> bool:
        """Return whether a run may be a fork: not for a while after an import has ended the process that did it."""
        return time.monotonic() >= self._not_before

    def fork(self, process: ForkServerProcess) -> int:
        """Start a process, and return its number; `forget` has to be called when it has ended.

        Raises:
            ImportsEndedError: The one that it was to be a fork of did not live to fork any.
            OSError: That one has ended since.
            EOFError: The same, later.
        """
        self.begin()
        server = _SERVER._forkserver_pid  # noqa: SLF001
        with self._lock:
            has_forked = server in self._forks
        try:
            process.start()
        except (OSError, EOFError) as error:
            if has_forked:
                raise
            self._not_before = time.monotonic() + _AGAIN_S
            raise ImportsEndedError from error
        with self._lock:
            self._forks.setdefault(server, set()).add(process)
        _children.discard(process)  # or the next start asks how it ended, in a thread, and our end waits for it
        return process.pid or 0

    def forget(self, process: ForkServerProcess) -> None:
        """Take note that a process has ended, and its end was read: with the last, one that was replaced may end."""
        with self._lock:
            for forks in self._forks.values():
                forks.discard(process)
        self._end_former()

    def _end_former(self) -> None:
        """End those that were replaced and have no forks any more: sooner, they would not say how the last ended."""
        with self._lock:
            for server in [server for server in self._former if not self._forks.get(server)]:
                os.close(self._former.pop(server))
                self._forks.pop(server, None)
                self._ending.append(server)
            self._ending = [server for server in self._ending if os.waitpid(server, os.WNOHANG) == (0, 0)]


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

    def __init__(
        self,
        flow: str,
        environment: Mapping[str, str | None],
        control: ControlChannel,
        imports: Imports,
        otherwise: ProcessStarter,
    ) -> None:
        """Take the flow's module and function, what the run's environment has beside this process's, and its channel.

        Args:
            flow: As `flows.train_model.train_model`.
            environment: None for what it shall not have.
            control: Over which Prefect tells the run that it is cancelled.
            imports: Of which the process is a fork.
            otherwise: Starts the run if there can be no forks.
        """
        self._flow = flow
        self._environment = environment
        self._control = control
        self._imports = imports
        self._otherwise = otherwise

    async def start(self, flow_run: FlowRun, task_status: TaskStatus[ProcessHandle] = TASK_STATUS_IGNORED) -> None:
        """Start the process, tell its handle, and return when it has ended."""
        process = _CONTEXT.Process(target=engine.run_forked, args=(self._flow, self._environment_of(flow_run)))
        child = None
        try:
            number = await to_thread.run_sync(self._imports.fork, process)
            with contextlib.suppress(psutil.NoSuchProcess):  # it was killed at once
                child = psutil.Process(number)
            while not _leads(number):  # noqa: ASYNC110 - it says nothing when it does
                await anyio.sleep(0.001)
            handle = ProcessHandle(
                process,  # type: ignore[arg-type]  # it asks for no more than a SpawnProcess has in common with it
                termination_scope=create_isolated_termination_scope(number),
            )
            task_status.started(handle)
        except BaseException as error:
            self._control.unregister(flow_run.id)
            if not isinstance(error, ImportsEndedError):
                raise
            LOGGER.error(  # noqa: TRY400 - where it was raised says nothing
                "A file of this checkout ends each process that imports it, as a crash or os._exit does, so that runs "
                "import for themselves what they need, 3 s each; mend it. The run of that flow has no log."
            )
            await self._otherwise.start(flow_run, task_status)
            return
        await anyio.wait_readable(process.sentinel)
        while child is not None and _goes_on(child):  # noqa: ASYNC110 - no server of forks, nobody says when one ends
            await anyio.sleep(_LOOK_S)
        process.join()
        self._imports.forget(process)

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

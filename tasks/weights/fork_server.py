"""Processes that load weights as forks of one that has imported what they need: torch alone takes seconds each time.

`python -m tasks.weights.fork_server CONNECTION MODULE...` imports the modules and does what comes over the connection,
a socket, one process after the other. Like each of them it has no key. It ends with the process at the other end.
"""

import contextlib
import json
import multiprocessing
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

import psutil
from setproctitle import setproctitle

from tasks.weights.isolation import without_credentials
from tasks.weights.scheduling import stand_back

CHECKOUT = Path(__file__).resolve().parents[2]
_MESSAGE = 1 << 16  # bytes
_FORK = multiprocessing.get_context("fork")


class ForkServerError(Exception):
    """The server is gone, or busy: a process has to be started otherwise."""


class ForkedProcess:
    """What `subprocess.Popen` says of a process, for one that a server has forked."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""
        return self._status_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when the process has ended.

        Raises:
            TimeoutExpired: It runs on after `timeout` seconds.
        """
        status = self._status_within(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def _status_within(self, timeout: float | None) -> int | None:
        if self._status is None and select.select([self._connection], [], [], timeout)[0]:
            try:
                self._status = _receive(self._connection)["status"]
            except ForkServerError:  # nobody knows how the process ends, so it does so now
                _kill_group(self.pid)
                self._status = -signal.SIGKILL
        return self._status


class ForkServer:
    """A process that has imported modules and is forked for each process that is wanted."""

    def __init__(self, folder: Path, modules: Sequence[str]) -> None:
        """Start it in `folder`; it imports the modules while others work."""
        self._connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._running: ForkedProcess | None = None
        with other:
            self._process = subprocess.Popen(
                # -P: no file of a run is taken for a module.
                [sys.executable, "-P", "-m", "tasks.weights.fork_server", str(other.fileno()), *modules],
                cwd=folder,
                env=without_credentials(os.environ, CHECKOUT),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
        stand_back(self._process.pid, os.nice(0))

    def start(self, module: str, arguments: Sequence[str], output: TextIO) -> ForkedProcess:
        """Start `python -m MODULE ARGUMENTS` as a session of its own, in the folder of the file `output`.

        Raises:
            ForkServerError: The server is gone, or its last process still runs.
        """
        if self._running is not None and self._running.poll() is None:
            raise ForkServerError("its last process still runs")
        order = {"module": module, "arguments": list(arguments), "folder": str(Path(output.name).resolve().parent)}
        try:
            socket.send_fds(self._connection, [json.dumps(order).encode()], [output.fileno()])
            self._running = ForkedProcess(_receive(self._connection)["pid"], self._connection)
        except (OSError, KeyError) as error:
            self.close()
            raise ForkServerError(f"it answers no more: {error}") from error
        except BaseException:  # a cancelled run must not leave a process of which it has no number
            self.close()
            raise
        return self._running

    def close(self) -> None:
        """End the server and what it has started; more than once does nothing."""
        self._connection.close()
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGSTOP)  # or it forks beside us
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.kill()
        self._process.wait()


_current: ContextVar[ForkServer | None] = ContextVar("fork_server", default=None)


@contextlib.contextmanager
def fork_server(folder: Path, modules: Sequence[str]) -> Iterator[None]:
    """Have `isolated_process` fork its processes in the block from one that has imported `modules`, started at once.

    `folder` exists as long as the block. The modules must start no thread that a fork would miss, nor use a GPU.
    """
    server = ForkServer(folder, modules)
    token = _current.set(server)
    try:
        yield
    finally:
        _current.reset(token)
        server.close()


def current_server() -> ForkServer | None:
    """Return the server of the surrounding `fork_server`, if there is one."""
    return _current.get()


def _receive(connection: socket.socket) -> dict[str, int]:
    try:
        message = connection.recv(_MESSAGE)
    except OSError as error:
        raise ForkServerError(str(error)) from error
    if not message:
        raise ForkServerError("it has ended")
    return dict(json.loads(message))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def main(connection: str, *modules: str) -> None:
    """Import the modules, then fork a process for each message and tell how it ended, until the owner is gone."""
    for module in modules:
        pkgutil.resolve_name(module)
    with socket.socket(fileno=int(connection)) as owner, contextlib.suppress(ConnectionError):
        while True:
            message, files, *_ = socket.recv_fds(owner, _MESSAGE, 1)
            if not message:
                return
            process = _FORK.Process(target=_run, args=(owner, files[0], json.loads(message)))
            process.start()
            os.close(files[0])
            process.join()
            owner.send(json.dumps({"status": process.exitcode}).encode())


def _run(owner: socket.socket, output: int, order: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    os.setsid()
    owner.send(json.dumps({"pid": os.getpid()}).encode())
    owner.close()
    os.chdir(str(order["folder"]))
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    module, arguments = str(order["module"]), list(order["arguments"])
    setproctitle(f"{sys.executable} -m {module} {' '.join(arguments)}")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

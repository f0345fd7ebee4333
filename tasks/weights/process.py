"""Processes that load weights: without credentials, and gone with the process that started them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import psutil

from tasks.weights.fork_server import CHECKOUT, ForkedProcess, ForkServerError, current_server
from tasks.weights.isolation import without_credentials
from tasks.weights.scheduling import stand_back

CHECK_INTERVAL_S = 1.0
IsolatedProcess = subprocess.Popen[str] | ForkedProcess


@contextlib.contextmanager
def isolated_process(module: str, arguments: Sequence[str], output: TextIO) -> Iterator[IsolatedProcess]:
    """Run `python -m MODULE ARGUMENTS OWNER` in the folder of the file `output`; OWNER is the id of this process.

    In a `fork_server` it is a fork, if the server is there and has nothing else to do. At the end of the block the
    process and all its children are killed: the last of them frees the GPU.
    """
    process = _start(module, [*arguments, str(os.getpid())], output)
    try:
        stand_back(process.pid, os.nice(0))
        yield process
    finally:
        family = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
        psutil.wait_procs(family, timeout=5)


def _start(module: str, arguments: Sequence[str], output: TextIO) -> IsolatedProcess:
    if server := current_server():
        with contextlib.suppress(ForkServerError):
            return server.start(module, arguments, output)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(output.name).parent,  # what Ultralytics downloads there is removed with the run
        env=without_credentials(os.environ, CHECKOUT),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


def exit_reason(status: int, output: str) -> str:
    """Return how a process ended: by which signal, or with which status and last line of its output."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}: {last_line(output)}"


def last_line(output: str) -> str:
    """Return the last line of an output that is not empty."""
    return output.strip().rpartition("\n")[2]


def exit_when_process_ends(*owners: int) -> None:
    """End this process within a second of the end of one of these process ids.

    A killed flow run cannot end its children, and a training without one would hold the GPU.
    """
    threading.Thread(target=_watch, args=(owners,), name="owners", daemon=True).start()


def _watch(owners: tuple[int, ...]) -> None:
    with contextlib.suppress(psutil.Error):
        watched = [psutil.Process(owner) for owner in owners]
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
            time.sleep(CHECK_INTERVAL_S)
    os._exit(1)

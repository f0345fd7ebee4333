"""No training outlives the flow run that it belongs to."""

import contextlib
import os
import threading
import time

import psutil

CHECK_INTERVAL_S = 1.0


def exit_when_process_ends(*owners: int) -> None:
    """End this process as soon as one of the processes with these ids is gone, however that came about.

    A flow run that was killed cannot end its children itself, and a training that nobody waits for holds the GPU.
    """
    watched = [_process(owner) for owner in owners]
    threading.Thread(target=_watch, args=(watched,), name="owners", daemon=True).start()


def _process(number: int) -> psutil.Process:
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        os._exit(1)


def _watch(watched: list[psutil.Process]) -> None:
    with contextlib.suppress(psutil.Error):  # one that goes while it is asked is gone
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
            time.sleep(CHECK_INTERVAL_S)
    os._exit(1)

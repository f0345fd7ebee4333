"""The end of a training process whose flow run is gone."""

import contextlib
import os
import threading
import time

import psutil

CHECK_INTERVAL_S = 1.0


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

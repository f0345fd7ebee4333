"""The memory of a run of inference in a process of its own."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

EVERY_S = 0.05
RUN = """
import sys
from flows.run_inference import run_inference
from tasks.parameters import InferenceParams
state = run_inference(sys.argv[1], [sys.argv[2]], InferenceParams(annotate=False), return_state=True)
sys.exit(0 if state.is_completed() else str(state.message))
"""


def peak_mib(name: str, place: str, log: Path) -> float:
    """Run the flow in a process of its own; return the most memory that it and its children held together."""
    with log.open("wb") as said:
        process = subprocess.Popen([sys.executable, "-c", RUN, name, place], stdout=said, stderr=said)
    peak, family = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, _held(family))
        time.sleep(EVERY_S)
    assert process.returncode == 0, log.read_text()[-4000:]
    return peak / 2**20


def _held(family: psutil.Process) -> int:
    """Bytes of memory of a process and its children."""
    total = 0
    with suppress(psutil.Error):  # it has just ended
        for process in [family, *family.children(recursive=True)]:
            total += process.memory_info().rss
    return total

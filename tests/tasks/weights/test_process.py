"""Processes that load weights stand back as far as the process that started them."""

import subprocess
import sys
from pathlib import Path

import pytest

STARTS_A_TRAINER = """
import os, sys
from pathlib import Path
from tasks.weights.process import isolated_process

SLEEP = ["-n1", "-r1", "import time", "time.sleep(60)"]
os.nice(7)
with Path(sys.argv[1], "log").open("w") as output, isolated_process("timeit", SLEEP, output) as process:
    print(Path(f"/proc/{process.pid}/autogroup").read_text(), os.getpriority(os.PRIO_PROCESS, process.pid))
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel shares by nice alone")
def test_the_session_of_a_training_is_weighed_by_the_nice_of_its_worker(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", STARTS_A_TRAINER, str(tmp_path)], capture_output=True, text=True, check=True
    )
    group, nice = shown.stdout.rsplit(maxsplit=1)
    assert (group.split()[-1], nice) == ("7", "7"), shown

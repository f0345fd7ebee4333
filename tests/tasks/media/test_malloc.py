"""What pictures leave behind in the allocator."""

import subprocess
import sys

import pytest

from infra.stack_settings import ROOT

# Of each size as many as a run has at one time, again and again; what counts is after the first few.
PROBE = """
import resource, sys
import numpy as np
from tasks.media.malloc import trim_heap, tune_malloc

if sys.argv[1] == "reuse":
    tune_malloc()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
picture = lambda: np.ones(6_220_800, np.uint8)
for _ in range(4):
    kept = [picture() for _ in range(6)]
    del kept
before = faults()
for _ in range(20):
    kept = [picture() for _ in range(6)]
    del kept
print((faults() - before) / 120)
"""


def faults(how: str) -> float:
    command = [sys.executable, "-c", PROBE, how]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of glibc")
def test_the_memory_of_a_picture_serves_the_next() -> None:
    """Else most of its pages are asked for anew."""
    assert faults("reuse") < faults("as it is") / 5

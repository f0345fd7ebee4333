"""Prometheus' own programs, of Debian's packages prometheus and prometheus-alertmanager."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROMETHEUS, ALERTMANAGER, PROMTOOL = map(shutil.which, ("prometheus", "prometheus-alertmanager", "promtool"))
MISSING = "needs Prometheus and Alertmanager: apt-get install prometheus prometheus-alertmanager"
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
_NO_METRICS = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|on|without|ignoring)\s*\([^)]*\)|\$\w+')
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """Run promtool and return what it says; fails the test if it finds a fault."""
    assert PROMTOOL
    found = subprocess.run([PROMTOOL, *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout + found.stderr


def metrics_of(expression: str) -> set[str]:
    """The names of the metrics in an expression."""
    names = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", _NO_METRICS.sub(" ", expression))
    return set(names) - _WORDS

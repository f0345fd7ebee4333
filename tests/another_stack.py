"""A stack beside that of the tests, with a state folder, ports and processes of its own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from infra.stack_settings import StackSettings
from tests.stack_environment import PORTS, free_block

_OURS = ("STUDIO_", "PREFECT_", "MLFLOW_", "AWS_", "TRITON_", "LABEL_STUDIO_")


@contextlib.contextmanager
def another_stack(state: Path) -> Iterator[dict[str, str]]:
    """The environment of a stack that nobody has started; what was started in it is stopped at the end."""
    first = free_block(len(PORTS))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environment |= {f"STUDIO_{name}_PORT": str(first + number) for number, name in enumerate(PORTS)}
    environment |= {"STUDIO_STATE_DIR": str(state), "STUDIO_TRITON_VENV": str(StackSettings().triton_venv)}
    try:
        yield environment
    finally:
        stopped = run_studio(environment, "down")
        assert stopped.returncode == 0, stopped.stderr


def run_studio(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `studio` in it, whatever becomes of that."""
    command = [sys.executable, "-m", "studio", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def studio(environment: dict[str, str], *arguments: str) -> str:
    """What a command of `studio` prints, which must end well."""
    done = run_studio(environment, *arguments)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout

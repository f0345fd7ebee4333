"""The process of a service of the stack, as its supervisor knows it."""

import psutil

from infra import supervisord
from infra.stack_settings import StackSettings


def process_of(stack: StackSettings, name: str) -> psutil.Process:
    """Return the process of a service; fails if it does not run."""
    with supervisord.connect(stack) as supervisor:
        pid = supervisor.getProcessInfo(name)["pid"]
    assert pid, f"expected that service {name} runs, found that it does not"  # 0 would be another process
    return psutil.Process(pid)

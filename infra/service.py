"""What a service of the local stack is."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS = 20


@dataclass(frozen=True)
class Service:
    """One program under the supervisor. `check` raises while the service is not well."""

    name: str
    address: str
    command: list[str]
    ports: dict[str, int]  # the setting that moves the port -> the port
    check: Callable[[], object]
    environment: dict[str, str] = field(default_factory=dict)  # all of it: nothing is inherited
    user: int | None = None  # a user of its own, with a group of the same number
    stop_signal: str = "TERM"
    stop_seconds: int = STOP_SECONDS  # after which it is killed


def bin_path(name: str) -> str:
    """A program of the virtual environment that runs us."""
    return str(Path(sys.executable).parent / name)

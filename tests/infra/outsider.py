"""Somebody else on this machine: a user that is neither ours nor PostgreSQL's."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

UID = 65_533


def can_be() -> bool:
    """Only root can become another user; where tests run as somebody else, modes alone can be looked at."""
    return os.geteuid() == 0


def run(command: list[str], timeout: float = 30, uid: int = UID, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command as the outsider, in an empty environment, where it may be; its output is text."""
    identity = {"user": uid, "group": uid, "extra_groups": []} if can_be() else {}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, capture_output=True, text=True, check=False, timeout=timeout, cwd="/", env={}, **identity, **options
    )


def readable(paths: Iterable[Path], uid: int = UID) -> list[str]:
    """Those of the paths that the outsider can read."""
    names = [str(path) for path in paths if not path.is_symlink()]
    if not can_be():
        return [name for name in names if Path(name).stat().st_mode & 0o077]
    control = "/etc/passwd"  # which everybody can read
    script = 'for path; do test -r "$path" && echo "$path"; done; true'
    command = ["/usr/bin/xargs", "-0", "/bin/sh", "-c", script, "sh"]
    found = run(command, uid=uid, input="\0".join([control, *names])).stdout.splitlines()
    assert found[:1] == [control]
    return found[1:]

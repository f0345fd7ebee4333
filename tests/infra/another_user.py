"""A user without a privilege, for processes of tests that run as root."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

NUMBER = 10001


def another_user() -> dict[str, Any]:
    """What `subprocess` is told to become that user; nothing if we are not root, or others cannot start this Python."""
    program = Path(sys.executable).resolve()
    is_reachable = all(folder.stat().st_mode & stat.S_IXOTH for folder in program.parents)
    return {"user": NUMBER, "group": NUMBER, "extra_groups": []} if os.geteuid() == 0 and is_reachable else {}


def hand_over(*paths: Path) -> None:
    """Give folders and files to that user, who may pass through the folders above."""
    if not another_user():
        return
    for path in paths:
        os.chown(path, NUMBER, NUMBER)
        for folder in path.parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH and folder.stat().st_uid == 0:
                folder.chmod(mode | stat.S_IXOTH)

"""Become a service, with exactly its own environment: `python -I -S launch.py FILE`, as the supervisor does.

The supervisor would pass its whole environment to every service. With the standard library alone this takes 20 ms.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Replace this process by the command that the file names."""
    service = json.loads(Path(sys.argv[1]).read_text())
    os.nice(service["nice"])
    if service["user"]:
        os.setgroups([])
        os.setgid(service["user"])
        os.setuid(service["user"])
    os.execve(service["command"][0], service["command"], service["environment"])  # noqa: S606


if __name__ == "__main__":
    main()

"""How much of a processor the kernel gives to a session."""

import contextlib
import time
from pathlib import Path


def stand_back(pid: int, nice: int) -> None:
    """Have the kernel weigh the session that process `pid` leads by `nice`, 0 to 19.

    Linux shares a processor among sessions first (man 7 sched, autogroup), and looks at the nice of a process only
    within its own. Without this a session of nice 19 gets as much as that of everything else.
    """
    with contextlib.suppress(FileNotFoundError):  # a kernel that knows no such groups
        group = Path(f"/proc/{pid}/autogroup")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                group.write_text(str(nice))
            except BlockingIOError:  # of all users together ten a second may
                time.sleep(0.05)
            except OSError:  # it has ended, or runs where nobody may
                return
            else:
                return

"""Processes that are forked are as isolated as those that are started, and end as these do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.weights.fork_server import ForkedProcess, ForkServerError, current_server, fork_server
from tasks.weights.process import isolated_process

# A module whose main part does what its first argument says: `python -m timeit -n1 -r1 STATEMENT OWNER`.
RUN = ("-n1", "-r1")


def outcome(folder: Path, statement: str) -> tuple[int, str]:
    """The exit status of a forked process, and what it printed."""
    log = folder / "output.log"
    with log.open("w") as output, isolated_process("timeit", [*RUN, statement, "pass"], output) as process:
        assert isinstance(process, ForkedProcess)
        status = process.wait(30)
    return status, log.read_text()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def soon(found: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not found() and time.monotonic() < deadline:
        time.sleep(0.05)
    return found()


def test_a_process_has_what_the_server_imported_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    (tmp_path / "tabnanny.py").write_text("print('a file of the run')")
    with fork_server(tmp_path, ["colorsys"]):
        status, printed = outcome(
            tmp_path,
            "import os, sys; print('colorsys' in sys.modules, os.getcwd(), os.getsid(0) == os.getpid(), "
            "any('hunter2' in value for value in os.environ.values()))",
        )
        assert status == 0
        assert f"True {tmp_path} True False" in printed


@pytest.mark.parametrize(("statement", "status"), [("import os; os._exit(3)", 3), ("raise ValueError('so')", 1)])
def test_the_exit_status_is_that_of_the_process(tmp_path: Path, statement: str, status: int) -> None:
    with fork_server(tmp_path, []):
        found, printed = outcome(tmp_path, statement)
        assert found == status
        assert ("ValueError: so" in printed) == (status == 1)


def test_a_killed_process_hurts_no_other(tmp_path: Path) -> None:
    with fork_server(tmp_path, []):
        assert outcome(tmp_path, "import os; os.kill(os.getpid(), 9)")[0] == -signal.SIGKILL
        assert outcome(tmp_path, "pass")[0] == 0


def test_at_the_end_of_the_block_a_process_and_its_children_are_gone(tmp_path: Path) -> None:
    statement = "import subprocess, time; subprocess.Popen(['sleep', '60'], start_new_session=True); time.sleep(60)"
    with fork_server(tmp_path, []):
        with (
            (tmp_path / "log").open("w") as output,
            isolated_process("timeit", [*RUN, statement, "pass"], output) as process,
        ):
            assert process.poll() is None
            assert soon(lambda: f"-m timeit {' '.join(RUN)}" in " ".join(psutil.Process(process.pid).cmdline()))
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
            assert soon(lambda: bool(psutil.Process(process.pid).children()))
            (child,) = psutil.Process(process.pid).children()
        assert is_gone(process.pid)
        assert is_gone(child.pid)


def test_without_the_server_a_process_is_started(tmp_path: Path) -> None:
    with (
        fork_server(tmp_path, ["no_such_module"]),
        (tmp_path / "log").open("w") as output,
        isolated_process("timeit", [*RUN, "pass", "pass"], output) as process,
    ):
        assert isinstance(process, subprocess.Popen)
        assert process.wait(30) == 0


def test_a_second_process_beside_the_first_is_started(tmp_path: Path) -> None:
    slow = ("timeit", [*RUN, "import time; time.sleep(60)", "pass"])
    with (
        fork_server(tmp_path, []),
        (tmp_path / "log").open("w") as output,
        isolated_process(*slow, output) as first,
        isolated_process(*slow, output) as second,
    ):
        assert isinstance(first, ForkedProcess)
        assert isinstance(second, subprocess.Popen)


def test_if_the_server_is_killed_its_process_counts_as_killed(tmp_path: Path) -> None:
    with (
        fork_server(tmp_path, []),
        (tmp_path / "log").open("w") as output,
        isolated_process("timeit", [*RUN, "import time; time.sleep(60)", "pass"], output) as process,
    ):
        server = psutil.Process(process.pid).parent()
        assert server is not None
        server.kill()
        assert process.wait(10) == -signal.SIGKILL
        assert soon(lambda: is_gone(process.pid))


def test_a_closed_server_starts_nothing(tmp_path: Path) -> None:
    with fork_server(tmp_path, []):
        server = current_server()
        assert server is not None
        server.close()
        server.close()
        with (tmp_path / "log").open("w") as output, pytest.raises(ForkServerError):
            server.start("timeit", [*RUN, "pass", "pass"], output)


OWNER = """
import sys, time
from pathlib import Path
from tasks.weights.fork_server import fork_server
from tasks.weights.process import isolated_process

folder = Path(sys.argv[1])
WORK = "import sys, time; from tasks.weights.process import exit_when_process_ends as watch; watch(int(sys.argv[-1])); "
with fork_server(folder, []), (folder / "log").open("w") as output:
    with isolated_process("timeit", ["-n1", "-r1", WORK + "time.sleep(60)", "pass"], output) as process:
        print(process.pid, flush=True)
        time.sleep(60)
"""


def test_server_and_process_end_with_a_killed_owner(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as owner:
        assert owner.stdout is not None
        process = psutil.Process(int(owner.stdout.readline()))
        server = process.parent()
        assert server is not None
        time.sleep(0.5)
        owner.kill()
    assert soon(lambda: is_gone(process.pid) and is_gone(server.pid))

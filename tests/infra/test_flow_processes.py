"""What runs are forked from: when it is replaced, and what becomes of a run where there can be none.

The module that it imports here is a small one in place of all flows.
"""

import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import anyio
import psutil
import pytest
from prefect.client.schemas.objects import FlowRun

from infra import engine, flow_processes
from infra.flow_processes import ForkStarter, Imports, ImportsEndedError
from infra.stack_settings import ROOT
from tests.waiting import eventually


class Checkout:
    """A folder with one module, of which processes tell what they have imported by how they end."""

    def __init__(self, root: Path) -> None:
        self._module = root / "flows" / "told_by_forks.py"
        self._module.parent.mkdir()
        self._writes = 0

    def write(self, text: str) -> None:
        self._module.write_text(f"import os\n{text}\ndef tell() -> None:\n    os._exit(VALUE)\n")
        self._writes += 1
        os.utime(self._module, (self._writes, self._writes))  # .pyc files know whole seconds


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path)
    made.write("VALUE = 3")
    monkeypatch.setattr(flow_processes, "ROOT", tmp_path)
    monkeypatch.setattr(flow_processes, "PRELOAD", ["told_by_forks"])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'flows'}{os.pathsep}{ROOT}")
    monkeypatch.syspath_prepend(tmp_path / "flows")
    monkeypatch.delitem(sys.modules, "told_by_forks", raising=False)
    monkeypatch.setitem(sys.modules, "__main__", engine)  # as in the worker, or each fork imports pytest
    return made


@pytest.fixture
def imports(checkout: Checkout) -> Iterator[Imports]:
    made = Imports()
    yield made
    checkout.write("VALUE = 0")
    made.renew_if_old()


def fork(imports: Imports) -> int:
    """Fork a process, and return how it ended."""
    process = forked()
    imports.fork(process)
    process.join()
    imports.forget(process)
    return int(process.exitcode)


def forked() -> Any:
    return flow_processes._CONTEXT.Process(target=import_module("told_by_forks").tell)


def test_after_a_change_of_a_file_runs_are_forked_from_what_has_it(checkout: Checkout, imports: Imports) -> None:
    assert fork(imports) == 3
    checkout.write("VALUE = 4")
    assert fork(imports) == 3  # nobody has looked
    imports.renew_if_old()
    assert [fork(imports), fork(imports)] == [4, 4]


def test_a_process_that_was_forked_before_a_change_goes_on(checkout: Checkout, imports: Imports) -> None:
    checkout.write("import time\nVALUE = 5\ndef wait() -> None:\n    time.sleep(1)\n    os._exit(6)")
    process = flow_processes._CONTEXT.Process(target=import_module("told_by_forks").wait)
    imports.renew_if_old()
    imports.fork(process)
    former = psutil.Process(process.pid).parent()
    assert former
    checkout.write("VALUE = 7")
    imports.renew_if_old()
    assert fork(imports) == 7
    process.join()
    assert process.exitcode == 6
    imports.forget(process)
    eventually(lambda: former.status() == psutil.STATUS_ZOMBIE, "the end of what has no more runs")
    assert fork(imports) == 7
    assert not psutil.pid_exists(former.pid)


def test_a_file_that_ends_who_imports_it_is_told_and_mended(checkout: Checkout, imports: Imports) -> None:
    process = forked()
    checkout.write("os._exit(9)")
    imports.renew_if_old()
    with pytest.raises(ImportsEndedError):
        imports.fork(process)
    assert not imports.are_possible()
    checkout.write("VALUE = 4")
    imports.renew_if_old()
    assert imports.are_possible()
    assert fork(imports) == 4


def test_imports_that_have_served_and_were_killed_are_begun_anew(imports: Imports) -> None:
    assert fork(imports) == 3
    killed = psutil.Process(flow_processes._SERVER._forkserver_pid)
    killed.kill()
    eventually(lambda: killed.status() == psutil.STATUS_ZOMBIE, "its end")
    assert fork(imports) == 3
    assert imports.are_possible()


class Control:
    """A stand-in of the channel over which a run is told that it is cancelled."""

    def __init__(self) -> None:
        self.registered: list[object] = []

    def register(self, run: object) -> tuple[int, str]:
        self.registered.append(run)
        return 0, ""

    def unregister(self, run: object) -> None:
        self.registered.remove(run)


def start(imports: object, otherwise: object = None) -> tuple[FlowRun, Control, list[Any]]:
    """Start a run, and return it, its channel and the handles that were told."""
    run, control, told = FlowRun(id=uuid4(), flow_id=uuid4(), name="run"), Control(), list[Any]()
    starter = ForkStarter("flows.x.x", {}, control, imports, otherwise)  # type: ignore[arg-type]
    anyio.run(starter.start, run, SimpleNamespace(started=told.append))
    return run, control, told


def test_a_run_starts_by_itself_where_a_file_ends_who_imports_it(checkout: Checkout, imports: Imports) -> None:
    class ByItself:
        async def start(self, run: FlowRun, _: object) -> None:
            started.append(run)

    started: list[FlowRun] = []
    checkout.write("os._exit(9)")
    imports.renew_if_old()
    run, control, told = start(imports, ByItself())
    assert (started, control.registered, told) == ([run], [], [])


def test_a_run_that_is_killed_as_soon_as_it_starts_has_been_started(imports: Imports) -> None:
    class Killing:
        def fork(self, process: Any) -> int:
            number = imports.fork(process)
            os.kill(number, signal.SIGKILL)
            eventually(lambda: not psutil.pid_exists(number), "its end")
            return number

        forget = imports.forget

    _, _, (handle,) = start(Killing())
    assert handle.returncode == -signal.SIGKILL

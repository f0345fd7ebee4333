"""Which of the runs that wait our worker takes, and how it starts the run of a flow."""

import asyncio
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runner._control_channel import ControlChannel
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.workers.process import ProcessWorker

from infra import flow_processes, supervisord, worker
from infra.flow_processes import ForkStarter
from infra.stack_settings import ROOT, StackSettings
from infra.worker import PULL_STEPS, CheckoutConfiguration, DrainingWorker, clock_error
from tasks.orchestration import deployed_flows
from tests.chaos.steps import ENGINE, log, processes, read, until
from tests.prefect_runs import make_run
from tests.waiting import eventually

ENTRYPOINT = "flows/validate_dataset.py:validate_dataset"
ELSEWHERE = """
from prefect import flow

@flow
def elsewhere() -> None:
    raise RuntimeError("seen here")
"""


def prepared(pull_steps: list[dict[str, Any]] | None, **configuration: Any) -> CheckoutConfiguration:
    made = CheckoutConfiguration(**configuration)
    deployment = DeploymentResponse(
        id=uuid4(), name="gpu", flow_id=uuid4(), entrypoint=ENTRYPOINT, pull_steps=pull_steps, labels={}
    )
    made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=deployment.flow_id, name="run"), deployment)
    return made


def test_a_run_whose_process_is_still_here_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in of what Prefect's own worker does then, without a server."""
    taken: list[object] = []

    async def take(_: ProcessWorker, found: list[SimpleNamespace]) -> list[object]:
        taken.append([entry.flow_run.id for entry in found])
        return []

    async def poll() -> None:
        worker = DrainingWorker(work_pool_name="gpu", limit=2)
        worker._limiter = anyio.CapacityLimiter(2)
        worker._limiter.acquire_on_behalf_of_nowait(here)
        found = [SimpleNamespace(flow_run=SimpleNamespace(id=run)) for run in (here, other)]
        await worker._submit_scheduled_flow_runs(found)
        worker._limiter.release_on_behalf_of(here)
        await worker._submit_scheduled_flow_runs(found)

    here, other = uuid4(), uuid4()
    monkeypatch.setattr(ProcessWorker, "_submit_scheduled_flow_runs", take)
    asyncio.run(poll())
    assert taken == [[other], [here, other]]


@pytest.mark.parametrize(
    ("minutes", "is_wrong"), [(-60, True), (-6, True), (-4, False), (0, False), (4, False), (6, True), (60, True)]
)
def test_a_clock_that_is_minutes_off_is_wrong(minutes: int, is_wrong: bool) -> None:
    here = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    error = clock_error(here + timedelta(minutes=minutes), here, here)
    assert bool(error) == is_wrong
    assert not is_wrong or f"2026-01-02 {3 + (minutes + 4) // 60:02}:{(minutes + 4) % 60:02}:00 there" in error


def test_an_answer_that_takes_minutes_makes_no_clock_wrong() -> None:
    asked = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    for answered in (asked, asked + timedelta(hours=1)):
        assert not clock_error(answered, asked, asked + timedelta(hours=1))


def test_a_worker_with_a_wrong_clock_takes_nothing_and_is_not_well() -> None:
    worker = DrainingWorker(work_pool_name="gpu", limit=2)
    assert worker.is_worker_still_polling(2)
    worker._clock_error = "wrong"
    assert not worker.is_worker_still_polling(2)
    assert asyncio.run(worker.get_and_submit_flow_runs()) == []  # nor does it ask


def test_a_run_whose_deployment_enters_the_checkout_is_of_it() -> None:
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["pull"] == PULL_STEPS
    assert prepared(PULL_STEPS).flow == "flows.validate_dataset.validate_dataset"


@pytest.mark.parametrize(
    "pull_steps", [None, [], [*PULL_STEPS, {"git": {}}], [{"prefect.deployments.steps.git_clone": {}}]]
)
def test_a_run_whose_flow_lies_elsewhere_is_left_to_prefect(pull_steps: list[dict[str, Any]] | None) -> None:
    assert prepared(pull_steps).flow is None


def test_a_command_that_somebody_has_chosen_is_left_to_prefect() -> None:
    assert prepared(PULL_STEPS, command="python -m prefect.engine").flow is None


@pytest.mark.parametrize("path", sorted((ROOT / "flows").glob("*.py")), ids=lambda path: path.stem)
def test_no_flow_has_a_hook_that_only_a_worker_would_call(path: Path) -> None:
    """The worker does not look for any."""
    assert not re.search(r"on_(crashed|cancellation)", path.read_text())


@pytest.mark.usefixtures("stack")
def test_a_flow_of_the_checkout_is_started_without_a_process_that_looks_for_it() -> None:
    """That one would say in the run's log which steps it takes."""
    run = deployed_flows.start("validate-dataset", {"archive": f"absent-{uuid4().hex[:8]}.zip"})
    assert deployed_flows.wait(run, 120).name == "Failed"
    lines = [line.text for line in deployed_flows.read_log(run)]
    assert any("absent-" in line for line in lines)
    assert any(re.fullmatch("carried out by worker .*-worker", line) for line in lines)
    assert not [line for line in lines if "pull step" in line]


@pytest.mark.parametrize(("status", "says"), [(401, True), (403, True), (503, False)])
def test_a_worker_that_is_shut_out_says_so_in_words(
    monkeypatch: pytest.MonkeyPatch, status: int, *, says: bool
) -> None:
    """By a stand-in of what Prefect's own worker raises then."""

    async def fail(*_: object, **__: object) -> None:
        response = httpx.Response(status, request=httpx.Request("POST", "http://prefect"))
        raise ExceptionGroup("tasks", [PrefectHTTPStatusError("refused", request=response.request, response=response)])

    monkeypatch.setattr(DrainingWorker, "start", fail)
    monkeypatch.setattr(sys, "argv", ["worker", "--limit", "1"])
    with pytest.raises((SystemExit, ExceptionGroup)) as ended:
        worker.main()
    assert ("Ask an admin" in str(ended.value)) is says


def test_the_process_of_a_run_says_which_flow_run_and_stack_it_is_of(stack: StackSettings) -> None:
    run, process = a_run_with_a_process()
    assert process.cmdline()[0] == f"infra.engine flows.validate_dataset.validate_dataset {run}"
    assert process.environ()[supervisord.STACK_ENV_VAR] == str(stack.state_dir)  # by which `make down` finds it


@pytest.mark.heavy
@pytest.mark.usefixtures("stack")
def test_a_run_ends_and_the_next_begins_though_what_runs_are_forked_from_is_killed() -> None:
    run, process = a_run_with_a_process()
    process.suspend()
    forked_from = process.parent()
    assert forked_from
    forked_from.kill()
    psutil.wait_procs([forked_from], timeout=10)
    process.resume()
    see_it_fail(run)
    see_it_fail(a_run_with_a_process()[0])


def see_it_fail(run: UUID) -> None:
    until(lambda: (state := read(run).state) and state.is_final(), "its end")
    assert (state := read(run).state)
    assert state.type == StateType.FAILED
    assert "absent-" in (state.message or "")
    until(lambda: any("absent-" in line for line in log(run)), "the log of its process")


def a_run_with_a_process() -> tuple[UUID, psutil.Process]:
    run = deployed_flows.start("validate-dataset", {"archive": f"absent-{uuid4().hex[:8]}.zip"})
    (process,) = eventually(lambda: processes(run, ENGINE), "its process", every_s=0.02)
    return run, process


@pytest.mark.parametrize("changed", ["", "a variable", "a setting"])
def test_a_run_imports_anew_what_its_variables_may_change(changed: str) -> None:
    worker = DrainingWorker(work_pool_name="gpu", limit=1)
    given = {"a variable": {"OMP_NUM_THREADS": "7"}, "a setting": {"PREFECT_FLOWS_DEFAULT_RETRIES": "7"}}
    starter = worker.starter("flows.x.x", prepared(PULL_STEPS, env=given.get(changed, {})), ControlChannel())
    assert isinstance(starter, EngineCommandStarter if changed else ForkStarter)


def test_a_run_starts_by_itself_while_a_file_ends_who_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = DrainingWorker(work_pool_name="gpu", limit=1)
    monkeypatch.setattr(worker.imports, "are_possible", lambda: False)
    starter = worker.starter("flows.x.x", prepared(PULL_STEPS, env={}), ControlChannel())
    assert isinstance(starter, EngineCommandStarter)


def test_the_lock_of_an_editor_beside_a_flow_keeps_no_run_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_processes, "ROOT", tmp_path)
    (tmp_path / "flows").mkdir()
    (flow := tmp_path / "flows" / "train_model.py").touch()
    (tmp_path / "flows" / ".#train_model.py").symlink_to("somebody@somewhere.1234")
    assert list(flow_processes.sources()) == [flow]


def test_processes_of_runs_do_not_import_the_worker() -> None:
    """Python has each import the main module of the process that asked for it: 0.3 to 0.8 s of a busy machine."""
    as_main = (
        "import contextlib, runpy, sys; sys.argv = ['worker', '--help']\n"
        "with contextlib.suppress(SystemExit): runpy.run_module('infra.worker', run_name='__main__')\n"
        "print(sys.modules['__main__'].__spec__.name)"
    )
    done = subprocess.run([sys.executable, "-c", as_main], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "infra.engine"


def test_what_runs_are_forked_from_is_not_of_the_group_that_is_told_to_end() -> None:
    """A supervisor tells the worker's group, and a worker that drains still has to see how its runs end."""
    found = "import infra.flow_imports, os; print(os.getpgid(0) == os.getpid())"
    done = subprocess.run([sys.executable, "-c", found], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"


@pytest.mark.heavy
def test_a_flow_that_cannot_be_imported_says_so_in_the_log_of_its_run(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    run = make_run(client, deployment)
    environment = {"PREFECT__FLOW_RUN_ID": str(run), "PREFECT__FLOW_ENTRYPOINT": "flows.no_such_flow.no_such_flow"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.engine"], cwd=ROOT, env=os.environ | environment, check=False, timeout=60
    )
    assert done.returncode == 1
    lines = eventually(lambda: [line.text for line in deployed_flows.read_log(run)], "its log")
    assert any("No module named 'flows.no_such_flow'" in line for line in lines)


@pytest.mark.heavy
@pytest.mark.usefixtures("stack")
def test_a_flow_that_lies_elsewhere_is_fetched_and_run(client: SyncPrefectClient, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    deployment = client.create_deployment(
        client.create_flow_from_name("elsewhere"),
        f"elsewhere-{uuid4().hex[:8]}",
        entrypoint="elsewhere.py:elsewhere",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}],
        work_pool_name="gpu",
        work_queue_name="interactive",
    )
    run = client.create_flow_run_from_deployment(deployment).id
    state = deployed_flows.wait(run, 120)
    client.delete_deployment(deployment)
    assert (state.name, "seen here" in str(state.message)) == ("Failed", True)

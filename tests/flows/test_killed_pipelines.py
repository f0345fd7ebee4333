"""A pipeline that is killed before and after each thing that it does, and tried again: each part was done once."""

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Crashed

from flows.run_pipeline import run_pipeline
from infra.stack_settings import ROOT
from tests.flows.pipelines import QUICK_PIPELINE, children, store_data, title
from tests.flows.steps import champion

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

START, PLAN = "tasks.orchestration.deployed_flows.start", "tasks.storage.object_store.ObjectStore.put_if_absent"
PLACES = [
    f"before {PLAN} 1",
    f"after {PLAN} 1",
    *(f"{when} {START} {number}" for number in (1, 2, 3) for when in ("before", "after")),
    "after tasks.pipelines.session.find_trained_version 1",
    "before tasks.orchestration.outcome.completed 1",
]


@pytest.fixture(scope="module", autouse=True)
def stored(stack: object, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: ARG001
    """Archives that the first of these pipelines checks."""
    store_data(tmp_path_factory.mktemp("data"), seed=3)


def killed(model: str, place: str) -> UUID:
    """Run a pipeline that is killed at `place`, and say what a worker says of a process that is gone; its flow run."""
    command = [sys.executable, "-m", "tests.flows.dying", "pipeline", model, "0", "killed", place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -9, done.stderr[-2000:]
    run = UUID(done.stdout.split()[-1])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Crashed(message="its process is gone"), force=True)
    return run


@pytest.mark.parametrize("place", PLACES)
def test_each_part_is_done_once_wherever_the_pipeline_is_killed(place: str) -> None:
    model = f"killed-{uuid4().hex[:8]}"
    run = killed(model, place)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
        found = client.read_flow_run(run)
    parameters = {"model_name": model, **QUICK_PIPELINE}
    state: Any = run_flow(run_pipeline, flow_run=found, parameters=parameters, return_type="state")
    assert state.name == "Completed", state
    parts = [each for each in children(run) if not title(each).startswith("check")]
    assert sorted(map(title, parts)) == [f"deploy {model} version 1", f"detect with {model}", f"train {model}"]
    assert [each.run_count for each in parts] == [1, 1, 1]
    assert champion(model) == "1"

"""How long a person waits from the click to the end of a run, by part, and what each process had to do for it.

`python -m pytest -s tests/benchmarks/bench_clicks.py`: it starts a stack of its own. A click is a call of Prefect's
API, as its page and the studio make it. Seconds of a busy machine say little; those of processor time beside them
hardly change, and their sum is what a quiet machine would need if it had one core.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from infra import demo_data
from infra.stack_settings import StackSettings
from infra.upload import upload
from tasks.orchestration.prefect_client import patient_client
from tasks.storage.object_names import Bucket
from tests.benchmarks.results import Measure, record, work_a_yardstick
from tests.clients import prefect_api
from tests.supervised import process_of

pytestmark = pytest.mark.timeout(1800)
PLAN = demo_data.ArchivePlan(name="clicked.zip", classes=("circle", "square", "triangle"), train=115, val=29, seed=5)
CLICKS = 5
LOOK_S = 0.5  # the times are those that the server has written down; each look costs it 10 ms
SERVICES = ("worker", "prefect", "mlflow", "postgres", "object-store", "triton")
WAITING, STARTING, FIRST_STEP, BETWEEN, IN_ALL = (
    "until the worker takes it",
    "until its process runs",
    "until its first step",
    "between its steps",
    "from click to end",
)


class Clicks:
    """Clicks of one kind, and what each took."""

    def __init__(self, stack: StackSettings, flow: str) -> None:
        self._flow = flow
        self._api = prefect_api(stack)
        self._deployment = self._api.get(f"/deployments/name/{flow}/gpu").raise_for_status().json()["id"]
        self._services = {name: process_of(stack, name) for name in SERVICES}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._spent: dict[str, list[float]] = defaultdict(list)
        self._yardstick: list[float] = []

    def click(self, parameters: Mapping[str, Any]) -> None:
        """Start a run, wait until it has ended, and note what took how long; fails unless it completes."""
        before = self._processor_times()
        began = datetime.now(UTC)
        address = f"/deployments/{self._deployment}/create_flow_run"
        made = self._api.post(address, json={"parameters": parameters}).raise_for_status().json()
        while (state := self._api.get(f"/flow_runs/{made['id']}").json()["state"])["type"] not in {
            *("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        }:
            time.sleep(LOOK_S)
        assert state["type"] == "COMPLETED", state
        time.sleep(4)  # until the process has gone and the server has the log and the steps
        for name, spent in self._processor_times().items():
            self._spent[name].append(spent - before[name])
        for name, seconds in parts(UUID(made["id"]), began).items():
            self._seconds[name].append(seconds)
        began_yardstick = time.perf_counter()
        work_a_yardstick()
        self._yardstick.append(time.perf_counter() - began_yardstick)

    def _processor_times(self) -> dict[str, float]:
        """Of each service and what it has started, ended ones too; the runs are those of what the worker has forked."""
        spent = {name: _spent(process) for name, process in self._services.items()}
        spent["its own process"] = 0.0
        for forking in self._services["worker"].children():
            spent["its own process"] += _spent(forking)
        spent["worker"] -= spent["its own process"]
        return spent

    def show(self, what: str, goal: float | None = None) -> None:
        """At the end, print the medians, steps in their order; `goal` are the most seconds from click to end."""
        self._api.close()
        print(f"\n{what}: {len(self._seconds[IN_ALL])} times")
        for name, seconds in self._seconds.items():
            print(f"  {name:<34} {median(seconds):6.2f} s   ({min(seconds):.2f} to {max(seconds):.2f})")
        busy = {name: median(spent) for name, spent in self._spent.items()}
        print("  processor: " + ", ".join(f"{name} {spent:.2f} s" for name, spent in busy.items() if spent >= 0.01))
        record(
            Measure(
                name=f"a click: {what}",
                unit="s",
                better="less",
                ours=self._seconds[IN_ALL],
                yardstick=self._yardstick,
                goal=goal,
            )
        )


def _spent(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:4]) for each in family)


def parts(run: UUID, began: datetime) -> dict[str, float]:
    """Return the seconds of each part of a run that has ended, in order."""
    with patient_client() as client:
        states = {state.name: state.timestamp for state in client.read_flow_run_states(run)}
        lines = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))
        steps = client.read_task_runs(
            task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
        )
    ended = max(states.values())
    found = {
        WAITING: (states["Pending"] - began).total_seconds(),
        STARTING: (states["Running"] - states["Pending"]).total_seconds(),
    }
    steps = sorted((step for step in steps if step.start_time), key=lambda step: step.start_time or began)
    firsts = [step.start_time for step in steps[:1] if step.start_time]
    own = [line.timestamp for line in lines if line.name == "prefect.flow_runs"]
    firsts += [moment for moment in own if moment > states["Running"]]
    found[FIRST_STEP] = (min([*firsts, ended]) - states["Running"]).total_seconds()
    in_steps = 0.0
    for step in steps:
        seconds = step.total_run_time.total_seconds()
        name = f"step {step.name.rpartition('-')[0]}"
        found[name] = found.get(name, 0) + seconds
        in_steps += seconds
    found[BETWEEN] = (ended - states["Running"]).total_seconds() - found[FIRST_STEP] - in_steps
    found[IN_ALL] = (ended - began).total_seconds()
    return found


@pytest.fixture(scope="module")
def archive(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = demo_data.write_archive(PLAN, tmp_path_factory.mktemp("clicked"))
    upload(stack, [path], Bucket.DATASETS, replace=True)
    return path.name


@pytest.fixture(scope="module")
def deployed(stack: StackSettings, untrained: Path) -> str:
    """A model of which version 1 is served."""
    upload(stack, [untrained], Bucket.BASE_MODELS, replace=True)
    registering = Clicks(stack, "register-model")
    registering.click({"model_name": "clicked", "weights": untrained.name, "archive": None})
    registering.show("register-model, weights of YOLO11n")
    deploying = Clicks(stack, "deploy-model")
    deploying.click({"model_name": "clicked", "version": 1})
    deploying.show("deploy-model, YOLO11n at 640 px", goal=20)
    return "clicked"


def test_checks_of_an_archive(stack: StackSettings, archive: str) -> None:
    clicks = Clicks(stack, "validate-dataset")
    for number in range(CLICKS + 1):
        clicks.click({"archive": archive, "policy": {"max_ratio": 200 + number}})  # as if nobody had asked before
    clicks.show(f"validate-dataset, {PLAN.train + PLAN.val} images", goal=4)


def test_checks_that_were_done_before(stack: StackSettings, archive: str) -> None:
    clicks = Clicks(stack, "validate-dataset")
    for _ in range(CLICKS + 1):
        clicks.click({"archive": archive})
    clicks.show("validate-dataset, the same bytes again", goal=4)


def test_inference(stack: StackSettings, deployed: str, tmp_path: Path) -> None:
    _, media = demo_data.generate(tmp_path)
    upload(stack, media[:1], Bucket.MEDIA, "clicked/", replace=True)
    clicks = Clicks(stack, "run-inference")
    for _ in range(CLICKS):
        clicks.click({"model_name": deployed, "inputs": [f"clicked/{media[0].name}"]})
    clicks.show("run-inference, 40 images", goal=5)

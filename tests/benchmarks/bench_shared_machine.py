"""How long a live prediction takes while a training uses the same processor, by how far the training stands back.

`python -m pytest -s tests/benchmarks/bench_shared_machine.py`: it starts a stack of its own. The training is a run of
the deployment on the worker of the stack. It is stopped for the rounds that stand for an idle machine, and rounds of
all kinds alternate, so that all meet the same machine. Run it where nothing else works.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from uuid import UUID

import boto3
import numpy as np
import psutil
import pytest

from infra import demo_data
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tasks.orchestration.prefect_client import patient_client
from tasks.serving.served_model import ServedModel
from tasks.weights.scheduling import stand_back
from tests.benchmarks import bench_predict, scenes
from tests.benchmarks.results import Measure, record
from tests.chaos.steps import processes, set_state, until
from tests.tasks.serving.graphs import publish, serve

ROUNDS = 5
IMAGE_SIZE = 640
GOAL = 1.3
PLAN = ArchivePlan(name="busy.zip", classes=("circle", "square"), train=64, val=8, seed=1)


AS_STARTED = "as started"  # by the worker, with the stack's own STUDIO_TRAINING_NICE
NICE = (0, 19)


@pytest.fixture
def training(stack: StackSettings, tmp_path: Path) -> Iterator[UUID]:  # noqa: ARG001
    boto3.client("s3").upload_file(str(demo_data.write_archive(PLAN, tmp_path)), "datasets", PLAN.name)
    parameters = {
        "model_name": "busy",
        "archives": [PLAN.name],
        "base_model": "yolo11n.yaml",
        "training": {"epochs": 500, "imgsz": 320, "batch": 16, "rehearse": False, "patience": 0},
    }
    run = deployed_flows.start("train-model", parameters)
    until(lambda: bool(trainer(run)), "it trains")
    time.sleep(20)  # until its epochs have begun
    yield run
    from prefect.states import Cancelling

    for process in trainer(run):
        process.resume()
    set_state(run, Cancelling())
    until(lambda: is_over(run), "it has ended")


def is_over(run: UUID) -> bool:
    with patient_client() as client:
        state = client.read_flow_run(run).state
    return state is not None and state.is_final()


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all below it; none if it has just gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def trains(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "tasks.training.trainer" in " ".join(process.cmdline())
    return False


def trainer(run: UUID) -> list[psutil.Process]:
    """The process that trains and those that it started; their environment does not say whose they are."""
    below = {child for process in processes(run) for child in family(process)}
    return [each for process in below if trains(process) for each in family(process)]


def weight_of(process: psutil.Process) -> tuple[int, int]:
    """Its nice, and that of its session."""
    group = Path(f"/proc/{process.pid}/autogroup")
    return process.nice(), int(group.read_text().split()[-1]) if group.exists() else process.nice()


@contextlib.contextmanager
def stopped(run: UUID) -> Iterator[None]:
    for process in trainer(run):
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in trainer(run):
            process.send_signal(signal.SIGCONT)


@pytest.mark.timeout(1800)
def test_live_predictions_are_protected_from_a_training(
    stack: StackSettings,  # noqa: ARG001
    training: UUID,
    tmp_path: Path,
) -> None:
    """With one client, p95 beside a training of the stack is at most 1.3 x that of an idle machine."""
    from tasks.export.exporter import write_graph

    graph = write_graph(scenes.weights_of_a_finder(tmp_path, IMAGE_SIZE), tmp_path, IMAGE_SIZE)
    names = tuple(f"class {number}" for number in range(80))
    model = ServedModel(
        name="live", version=1, task="detect", image_size=IMAGE_SIZE, class_names=names, run_id="no-run"
    )
    publish(model, graph.read_bytes())
    serve([model], champion=1)
    jpegs = list(islice(scenes.jpegs(640, 480, 16), 16))
    weights = {AS_STARTED: {process: weight_of(process) for process in trainer(training)}}
    weights |= {f"nice {nice}": dict.fromkeys(weights[AS_STARTED], (nice, nice)) for nice in NICE}
    rounds = {name: list[list[float]]() for name in ("idle", *weights)}
    for _ in range(ROUNDS):
        with stopped(training):
            rounds["idle"].append(bench_predict.live(model.name, jpegs, 1)[1])
        for name, of_processes in weights.items():
            for process, (nice, of_session) in of_processes.items():
                process.nice(nice)  # a lower one than it has needs root
                stand_back(os.getsid(process.pid), of_session)
            rounds[name].append(bench_predict.live(model.name, jpegs, 1)[1])
    took = {name: [each for times in own for each in times] for name, own in rounds.items()}
    p95 = {name: float(np.percentile(times, 95)) for name, times in took.items()}
    for name, times in took.items():
        p50, p99 = np.percentile(times, [50, 99])
        ratio = p95[name] / p95["idle"]
        print(f"{name:<10} p50 {p50:4.0f} ms  p95 {p95[name]:4.0f} ms ({ratio:.2f} of idle)  p99 {p99:4.0f} ms")
    slow = {name: [float(np.percentile(times, 95)) for times in own] for name, own in rounds.items()}
    for name in weights:
        record(
            Measure(
                name=f"p95 of a live prediction beside a training, {name}",
                unit="ms",
                better="less",
                ours=slow[name],
                beside="idle machine",
                theirs=slow["idle"],
                goal=GOAL if name == AS_STARTED else None,
            )
        )
    assert p95[AS_STARTED] <= GOAL * p95["idle"]

"""`make chaos`: services that answer nothing for minutes, a database that starts anew, a disk that is full.

Each run ends right, or says what to do; when that is done, it goes on from where it was.
"""

import contextlib
import io
import re
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import boto3
import cv2
import psutil
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State
from prefect.states import Scheduled

from infra import supervisord
from infra.environment import scratch
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.chaos.steps import log, read, set_state, until
from tests.chaos.test_full_disk import small_disk
from tests.chaos.test_matrix import objects
from tests.flows.registered import pictures

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
CUT_S = 300
ANEW_S = 60  # for which PostgreSQL is away
ENDED_S = 600  # after the service is back
EPOCHS = 40
IMAGES = 1000
MEDIA = "outages/"
ADVICE = re.compile(r"studio status|studio up|retry this run|Make room")


@pytest.fixture(scope="module")
def media(stack: object) -> str:  # noqa: ARG001
    store, bodies = boto3.client("s3"), [cv2.imencode(".jpg", each)[1].tobytes() for each in pictures(8)]
    for number in range(IMAGES):
        store.put_object(Bucket="media", Key=f"{MEDIA}{number:05d}.jpg", Body=bodies[number % len(bodies)])
    return MEDIA


@contextlib.contextmanager
def frozen(stack: StackSettings, name: str) -> Iterator[None]:
    """Let a service answer nothing, while its connections stay open: as a network does that loses each packet."""
    with supervisord.connect(stack) as supervisor:
        service = psutil.Process(supervisor.getProcessInfo(name)["pid"])
    family = [service, *service.children(recursive=True)]
    try:
        for process in family:
            process.suspend()
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@contextlib.contextmanager
def stopped(stack: StackSettings, name: str) -> Iterator[None]:
    """Let a service be away in the block, and begin anew: all connections to it are broken."""
    with supervisord.connect(stack) as supervisor:
        supervisor.stopProcess(name)
        try:
            yield
        finally:
            supervisor.startProcess(name)


def start_training(archive: str, epochs: int = EPOCHS) -> UUID:
    training = {"epochs": epochs, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {"archives": [archive], "base_model": "yolo11n.yaml", "training": training}
    return deployed_flows.start("train-model", {"model_name": f"outage-{uuid4().hex[:8]}", **parameters})


def start_inference(model: str, media: str) -> UUID:
    inference = {"confidence": 0.01, "annotate": False, "max_failure_share": 0}
    return deployed_flows.start("run-inference", {"model_name": model, "inputs": [media], "inference": inference})


def has_trained(run: UUID) -> bool:
    return any(key.endswith(".json") for key in objects("runs", f"{run}/checkpoints/"))


def has_predicted(run: UUID) -> bool:
    return sum("/parts/" in key for key in objects("runs", f"{run}/inference/")) >= 2


def end_of(run: UUID) -> State:
    """How a run has ended, once it has; one that crashed is given to a worker again."""
    deadline = time.monotonic() + ENDED_S
    while True:
        with contextlib.suppress(Exception):  # the server may need a moment to come back
            state = read(run).state
            if state and (state.is_completed() or state.is_failed()):
                return state
        assert time.monotonic() < deadline, (read(run).state, log(run)[-5:])
        time.sleep(1)


def carried_on(run: UUID) -> str:
    """Wait until a run has completed, after a retry by a person if its message says so; returns how."""
    began = time.monotonic()
    state, told = end_of(run), ""
    if state.is_failed():
        assert ADVICE.search(state.message or ""), state
        told = f" after a retry by hand: {state.message}"
        print(f"failed {time.monotonic() - began:.0f} s after: {state.message}", flush=True)
        set_state(run, Scheduled())
        until(lambda: (now := read(run).state) and not now.is_failed(), "it is tried again")
        state = end_of(run)
    assert state.is_completed(), (state, log(run)[-5:])
    return f"{time.monotonic() - began:.0f} s x{read(run).run_count}{told}"


def assert_trained_once(run: UUID) -> int:
    """One version, whose run has ended; returns how many epochs MLflow has."""
    (version,) = MlflowClient().search_model_versions(f"tags.flow_run_id = '{run}'")
    assert MlflowClient().get_run(str(version.run_id)).info.status == "FINISHED"
    history = [value.step for value in MlflowClient().get_metric_history(str(version.run_id), "metrics/mAP50")]
    assert len(history) == len({*history})
    return len(history)


def assert_predicted_once(run: UUID) -> None:
    body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{run}/pictures.parquet")["Body"].read()
    sources = pq.read_table(io.BytesIO(body))["source"].to_pylist()
    assert sources == [f"s3://media/{MEDIA}{number:05d}.jpg" for number in range(IMAGES)]


def assert_both_end_right(training: UUID, inference: UUID, what: str) -> None:
    """A training and an inference that were in the middle of their work when something was away."""
    print(f"\ninfer | {what} | {carried_on(inference)}", flush=True)
    print(f"train | {what} | {carried_on(training)}", flush=True)
    assert_predicted_once(inference)
    assert assert_trained_once(training) == EPOCHS


def in_the_middle(archive: str, model: str, media: str) -> tuple[UUID, UUID]:
    """A training and an inference that have done a part of their work."""
    training = start_training(archive)
    until(lambda: has_trained(training), "its first epoch")
    inference = start_inference(model, media)
    until(lambda: has_predicted(inference), "its first chunks")
    return training, inference


@pytest.mark.parametrize("service", ["prefect", "postgres", "mlflow", "object-store", "triton"])
def test_runs_outlive_a_cut_of_five_minutes(
    stack: StackSettings, archive: str, model: str, media: str, service: str
) -> None:
    runs = in_the_middle(archive, model, media)
    with frozen(stack, service):
        time.sleep(CUT_S)
    assert_both_end_right(*runs, f"{service} cut for {CUT_S} s")


def test_runs_outlive_a_database_that_starts_anew(stack: StackSettings, archive: str, model: str, media: str) -> None:
    """As after a failover: the connections of Prefect and MLflow are gone, and new ones lead to another server."""
    runs = in_the_middle(archive, model, media)
    with stopped(stack, "postgres"):
        time.sleep(ANEW_S)
    assert_both_end_right(*runs, f"postgres away for {ANEW_S} s")


def test_a_training_whose_disk_fills_up_says_so_and_goes_on_when_there_is_room(
    stack: StackSettings, archive: str
) -> None:
    with small_disk(scratch(stack), "400m"):
        run = start_training(archive)
        until(lambda: has_trained(run), "its first epoch")
        filling = scratch(stack) / "filling"
        with filling.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(bytes(1 << 16)):
                pass
        state = end_of(run)
        print(f"\ntrain | its disk fills up | {state.name}: {state.message}", flush=True)
        assert state.is_failed(), state
        assert "Make room" in (state.message or ""), state.message
        filling.unlink()
        set_state(run, Scheduled())
        until(lambda: read(run).run_count == 2, "it is tried again")
        assert end_of(run).is_completed(), log(run)
        assert any(line.startswith("carrying on after epoch") for line in log(run))
        assert assert_trained_once(run) == EPOCHS


def test_a_training_on_a_disk_without_room_says_so(stack: StackSettings, archive: str) -> None:
    with small_disk(scratch(stack), "300k"):
        state = end_of(start_training(archive))
        print(f"\ntrain | no room on its disk | {state.name}: {state.message}", flush=True)
        assert state.is_failed(), state
        assert "Make room" in (state.message or ""), state.message

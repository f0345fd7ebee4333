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
from tests.chaos.steps import IMAGES, MEDIA, completed, log, read, set_state, until
from tests.chaos.test_full_disk import small_disk
from tests.chaos.test_matrix import objects
from tests.supervised import process_of

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
CUT_S = 300
ANEW_S = 60  # for which PostgreSQL is away
ENDED_S = 600  # after the service is back
EPOCHS = 40
# Whoever asks Triton or the store all the time gives up after the minutes of TRITON_RESTART and STORE_RESTART, and then
# says this. All other runs end by themselves, whatever is away.
SAYS = {
    "object-store": r"The object store failed while .+`studio status` shows the local object store\.",
    "triton": r"See whether Triton is up \(`studio status`, `studio up`\); then retry this run: it goes on from here",
}


@contextlib.contextmanager
def frozen(stack: StackSettings, name: str) -> Iterator[None]:
    """Let a service answer nothing, while its connections stay open: as a network does that loses each packet."""
    service = process_of(stack, name)
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


def start_training(archive: str, epochs: int) -> UUID:
    training = {"epochs": epochs, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {"archives": [archive], "base_model": "yolo11n.yaml", "training": training}
    return deployed_flows.start("train-model", {"model_name": f"outage-{uuid4().hex[:8]}", **parameters})


def has_trained(run: UUID) -> bool:
    return any(key.endswith(".json") for key in objects("runs", f"{run}/checkpoints/"))


def has_predicted(run: UUID) -> bool:
    return sum("/parts/" in key for key in objects("runs", f"{run}/inference/")) >= 2


def begin_training(archive: str, epochs: int = EPOCHS) -> UUID:
    """Start a training; returns when it is in the middle of its work."""
    run = start_training(archive, epochs)
    until(lambda: has_trained(run) or completed(run), "its first epoch")
    return run


def begin_inference(model: str, media: str) -> UUID:
    """Start an inference; returns when it is in the middle of its work."""
    inference = {"confidence": 0.01, "annotate": False, "max_failure_share": 0}
    run = deployed_flows.start("run-inference", {"model_name": model, "inputs": [media], "inference": inference})
    until(lambda: has_predicted(run) or completed(run), "its first chunks")
    return run


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


def assert_completes(run: UUID, says: str = "") -> str:
    """Wait until a run has completed: by itself or, if it is to fail saying this, after a retry; returns how."""
    began = time.monotonic()
    state = end_of(run)
    if says:
        assert state.is_failed(), state
        assert re.search(says, state.message or ""), state
        print(f"failed: {state.message}", flush=True)
        began = time.monotonic()
        set_state(run, Scheduled())
        until(lambda: (now := read(run).state) and not now.is_failed(), "it is tried again")
        state = end_of(run)
    assert state.is_completed(), (state, log(run)[-5:])
    return f"{time.monotonic() - began:.0f} s x{read(run).run_count}{', retried by hand' if says else ''}"


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


def assert_both_end_right(training: UUID, inference: UUID, what: str, service: str) -> None:
    """A training and an inference that were in the middle of their work when something was away."""
    print(f"\ninfer | {what} | {assert_completes(inference, SAYS.get(service, ''))}", flush=True)
    print(f"train | {what} | {assert_completes(training)}", flush=True)
    assert_predicted_once(inference)
    assert assert_trained_once(training) == EPOCHS


@pytest.mark.parametrize("service", ["prefect", "postgres", "mlflow", "object-store", "triton"])
def test_runs_outlive_a_cut_of_five_minutes(
    stack: StackSettings, archive: str, model: str, media: str, service: str
) -> None:
    runs = begin_training(archive), begin_inference(model, media)
    with frozen(stack, service):
        time.sleep(CUT_S)
    assert_both_end_right(*runs, f"{service} cut for {CUT_S} s", service)


def test_runs_outlive_a_database_that_starts_anew(stack: StackSettings, archive: str, model: str, media: str) -> None:
    """As after a failover: the connections of Prefect and MLflow are gone, and new ones lead to another server."""
    runs = begin_training(archive), begin_inference(model, media)
    with stopped(stack, "postgres"):
        time.sleep(ANEW_S)
    assert_both_end_right(*runs, f"postgres away for {ANEW_S} s", "postgres")


def test_a_training_whose_disk_fills_up_says_so_and_goes_on_when_there_is_room(
    stack: StackSettings, archive: str
) -> None:
    with small_disk(scratch(stack), "400m"):
        run = begin_training(archive)
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
        state = end_of(start_training(archive, EPOCHS))
        print(f"\ntrain | no room on its disk | {state.name}: {state.message}", flush=True)
        assert state.is_failed(), state
        assert "Make room" in (state.message or ""), state.message

"""Trainings through the deployment, on a worker, that are killed, cancelled and taken over while they go on."""

import contextlib
import random
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import boto3
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.flow_runs import resume_flow_run
from prefect.states import Cancelling, Scheduled

from infra import demo_data
from infra.demo_data import ArchivePlan
from infra.environment import scratch
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.chaos.steps import ENGINE, completed, log, processes, read, set_state, until, worker_of

EPOCHS = 18
PLANS = (
    ArchivePlan(name="chaos-a.zip", classes=("circle", "square"), train=12, val=4, seed=1),
    ArchivePlan(name="chaos-b.zip", classes=("square", "circle"), train=12, val=4, seed=2),
)


@pytest.fixture(scope="module", autouse=True)
def archives(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("archives")
    for plan in PLANS:
        boto3.client("s3").upload_file(str(demo_data.write_archive(plan, folder)), "datasets", plan.name)


def start(name: str) -> UUID:
    training = {"epochs": EPOCHS, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {"archives": [plan.name for plan in PLANS], "base_model": "yolo11n.yaml", "training": training}
    return deployed_flows.start("train-model", {"model_name": name, **parameters})


def epochs_kept(run: UUID) -> list[int]:
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{run}/checkpoints/").get("Contents", [])
    return sorted(int(entry["Key"].split("/")[2]) for entry in found if entry["Key"].endswith(".json"))


def reached(run: UUID, epoch: int) -> bool:
    return epoch <= max(epochs_kept(run), default=0)


def tracked(run: UUID) -> Run:
    """The MLflow run of a flow run, which must be the only one."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name("training")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.flow_run_id = '{run}'")
    return found


def steps(run: UUID, metric: str) -> list[int]:
    return [value.step for value in MlflowClient().get_metric_history(tracked(run).info.run_id, metric)]


def carried_on_after(run: UUID) -> list[int]:
    """The epochs after which attempts of a run went on, by its log."""
    return [int(line.split()[-1]) for line in log(run) if line.startswith("carrying on after epoch")]


def assert_whole(run: UUID, name: str) -> None:
    """One flow run, one MLflow run with each epoch once, one version, and nothing left."""
    for metric in ("train/box_loss", "metrics/mAP50", "epoch_seconds"):
        assert steps(run, metric) == list(range(1, EPOCHS + 1)), metric
    assert tracked(run).info.status == "FINISHED"
    (version,) = MlflowClient().search_model_versions(f"name = '{name}'")
    assert version.tags["flow_run_id"] == str(run)
    assert version.run_id == tracked(run).info.run_id
    until(lambda: not processes(run), "no process is left")


def kill(run: UUID) -> None:
    """End the flow's process as the kernel would; the training has to see for itself that it is alone."""
    (flow,) = processes(run, ENGINE)
    flow.kill()
    until(lambda: not processes(run), "the training has ended with its flow run")


@pytest.mark.heavy
def test_a_training_that_is_killed_and_cancelled_is_carried_on(stack: StackSettings) -> None:
    """kill -9 at a random epoch: a worker gets the run back by itself. Cancelled: it stops, until it is retried."""
    run, epoch = start("killed"), random.randint(1, EPOCHS // 3)  # noqa: S311
    print(f"killed after epoch {epoch}")
    until(lambda: reached(run, epoch), f"epoch {epoch}")
    kill(run)
    killed_at = max(epochs_kept(run))
    until(lambda: reached(run, killed_at + 2), f"two epochs after {killed_at}")
    assert read(run).run_count == 2

    began = time.monotonic()
    set_state(run, Cancelling())
    until(lambda: not processes(run), "no process")
    assert time.monotonic() - began < 10
    until(lambda: read(run).state_name == "Cancelled", "cancelled")
    assert tracked(run).info.status == "KILLED"
    assert not list(scratch(stack).glob("studio-train-*"))
    assert max(epochs_kept(run)) > killed_at

    set_state(run, Scheduled())
    until(lambda: completed(run), "completed")
    assert read(run).run_count == 3
    first, second = carried_on_after(run)
    assert first >= epoch
    assert second >= killed_at + 2
    assert_whole(run, "killed")
    assert not list(scratch(stack).glob("studio-train-*"))


@pytest.mark.heavy
def test_a_training_that_is_suspended_waits_and_is_carried_on(stack: StackSettings) -> None:
    """It ends with an epoch that is kept, waits in both UIs for as long as it must, and goes on when it is resumed."""
    run = start("suspended")
    until(lambda: reached(run, 1), "epoch 1")
    waiting = start("behind")
    suspend(run)
    until(lambda: not processes(run), "the process has ended")
    stopped_after = max(epochs_kept(run))
    assert read(run).state_name == "Suspended"
    assert tracked(run).info.status == "SCHEDULED"
    assert steps(run, "epoch_seconds") == list(range(1, stopped_after + 1))
    left = "studio.flow-run.left"
    until(lambda: left in events(run), "the server has the last event")
    assert events(run)[-1] == left  # no automation waits for more
    assert not list(scratch(stack).glob("studio-train-*"))

    until(lambda: completed(waiting), "the one behind it completed meanwhile")
    assert read(run).state_name == "Suspended"
    resume_flow_run(run)
    until(lambda: completed(run), "completed")
    assert carried_on_after(run) == [stopped_after]
    assert_whole(run, "suspended")


def suspend(run: UUID) -> None:
    """What the button of the UI does."""
    until_then = StateDetails(pause_timeout=datetime.now(UTC) + timedelta(hours=1), pause_reschedule=True)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, State(type=StateType.PAUSED, name="Suspended", state_details=until_then))


def events(run: UUID) -> list[str]:
    """The events of a run, oldest first; the server has them some seconds later."""
    chosen = {"resource": {"id": [f"prefect.flow-run.{run}"]}, "order": "ASC"}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json={"filter": chosen, "limit": 50}).json()
    return [event["event"] for event in found["events"]]


@pytest.mark.heavy
def test_a_run_that_was_given_to_another_process_is_left_to_it(stack: StackSettings) -> None:  # noqa: ARG001
    """A run that only seemed dead is retried: the first process sees it and ends without touching anything."""
    run = start("taken-over")
    until(lambda: reached(run, 1), "epoch 1")
    first, worker = processes(run), worker_of(run)
    set_state(run, Scheduled())
    until(lambda: not any(process.is_running() for process in first), "the first process has ended")
    assert not read(run).state.is_final()  # type: ignore[union-attr]
    until(lambda: completed(run), "completed")
    assert carried_on_after(run)[0] >= 1
    assert_whole(run, "taken-over")
    assert worker.is_running(), "who takes a run again that it still has goes on"


@pytest.mark.heavy
@pytest.mark.parametrize("whole", [True, False], ids=["machine", "worker"])
def test_a_machine_or_worker_that_is_gone_costs_no_epoch(stack: StackSettings, whole: bool) -> None:  # noqa: ARG001
    """Worker, flow run and training die at once, or the worker alone: nobody tells, so the missing heartbeats do."""
    name = "machine" if whole else "worker"
    run = start(name)
    until(lambda: reached(run, 3), "epoch 3")
    worker = worker_of(run)
    for process in [worker, *worker.children(recursive=True), *processes(run)] if whole else [worker]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    began = time.monotonic()
    until(lambda: completed(run) or read(run).run_count == 2, "given back to a worker, or completed")
    print(f"{name}: attempt {read(run).run_count} after {time.monotonic() - began:.0f} s")
    until(lambda: completed(run), "completed")
    assert read(run).run_count == 1 or carried_on_after(run)[0] >= 3
    assert_whole(run, name)

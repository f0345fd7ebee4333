"""What is logged while a training goes on: each epoch once, whatever becomes of MLflow meanwhile."""

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from prefect import flow

from infra import stack as local_stack
from infra import supervisord
from infra.services import services
from infra.stack_settings import StackSettings
from tasks.tracking import live_metrics, registry
from tasks.tracking.live_metrics import EpochLogger
from tasks.tracking.mlflow_client import TrackingError
from tests.supervised import process_of
from tests.tasks.training.trained import epoch, opened, run, steps, trained
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def run_id() -> str:
    return opened(str(uuid4()))


def certain() -> bool:
    return True


def timed(logger: EpochLogger, number: int) -> float:
    began = time.monotonic()
    logger(epoch(number))
    return time.monotonic() - began


def send(processes: Iterable[psutil.Process], signal: Callable[[psutil.Process], None]) -> None:
    """Send a signal to those that are still there: the database ends some of its processes by itself."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            signal(process)


@pytest.fixture
def asleep(stack: StackSettings) -> Iterator[list[psutil.Process]]:
    """The processes of the database: while they sleep MLflow takes requests, and carries them out afterwards."""
    server = process_of(stack, "postgres")
    processes = [server, *server.children(recursive=True)]
    yield processes
    send(processes, psutil.Process.resume)


@pytest.fixture
def stopped(stack: StackSettings) -> Iterator[None]:
    """MLflow is down in the test until it starts it, and up after it."""
    with supervisord.connect(stack) as supervisor:
        supervisor.stopProcess("mlflow")
    yield
    start_mlflow(stack)


def start_mlflow(stack: StackSettings) -> None:
    supervisord.start_service(stack, "mlflow")
    mlflow = [service for service in services(stack) if service.name == "mlflow"]
    local_stack.wait_until_healthy(mlflow, stack, lambda _: None)


def test_an_epoch_is_a_step_with_its_time_and_batch(run_id: str) -> None:
    logger = EpochLogger(run_id, certain)
    logger(epoch(1, extra={"lost": math.nan}))
    metrics = run(run_id).data.metrics
    assert {name: metrics[name] for name in ("train/box_loss", "epoch_seconds", "batch")} == {
        "train/box_loss": 1.0,
        "epoch_seconds": 2.5,
        "batch": 8.0,
    }
    assert math.isnan(metrics["lost"])


def test_after_a_resume_only_what_is_missing_is_logged(run_id: str) -> None:
    """Epochs that are told again, or trained again, are steps already; one that never arrived is not."""
    first = EpochLogger(run_id, certain)
    first(epoch(1))
    first(epoch(3))
    again = EpochLogger(run_id, certain)
    for number in (1, 2, 3):
        again(epoch(number, restored=True))
    again(epoch(3))
    again(epoch(4))
    again(epoch(4))
    assert steps(run_id, "train/box_loss") == steps(run_id, "epoch_seconds") == [1, 3, 2, 4]


def test_an_epoch_that_mlflow_refuses_does_not_hold_up_the_next(run_id: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = EpochLogger(run_id, certain)
    for number in (1, 2):
        logger(epoch(number, extra={"not a name?": 1.0}))
    logger(epoch(3))
    assert steps(run_id, "train/box_loss") == [3]
    assert caplog.text.count("MLflow refuses an epoch") == 1


def test_a_server_that_does_not_answer_costs_no_step_and_doubles_none(
    run_id: str, asleep: list[psutil.Process], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was asked again and again while the database slept is all carried out when it wakes."""
    caplog.set_level("INFO")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(live_metrics, "WAIT_S", 0.8)
    monkeypatch.setattr(live_metrics, "WAIT_WHILE_DOWN_S", 0.3)
    logger = EpochLogger(run_id, certain)
    logger(epoch(1))
    send(asleep, psutil.Process.suspend)
    assert 0.7 < timed(logger, 2) < 1.5
    time.sleep(1)  # the first request is given up
    assert 0.2 < timed(logger, 3) < 0.7
    time.sleep(1)  # and the second
    timed(logger, 4)
    send(asleep, psutil.Process.resume)
    for number in range(5, 30):
        logger(epoch(number))
    logger.flush()
    assert steps(run_id, "train/box_loss") == list(range(1, 30))
    assert caplog.text.count("MLflow takes no epochs") == 1
    assert caplog.text.count("MLflow takes epochs again") == 1


def test_epochs_wait_while_another_process_may_be_at_the_run(run_id: str) -> None:
    asked = iter([True, False, False, True, False])
    logger = EpochLogger(run_id, lambda: next(asked))
    for number in (1, 2, 3):
        logger(epoch(number))
    assert steps(run_id, "epoch_seconds") == [1]
    logger(epoch(4))
    assert steps(run_id, "epoch_seconds") == [1, 2, 3, 4]
    logger(epoch(5))
    logger.flush()
    assert steps(run_id, "epoch_seconds") == [1, 2, 3, 4, 5]


@pytest.mark.heavy
def test_an_outage_costs_neither_the_training_nor_its_figures(
    run_id: str,
    stack: StackSettings,
    stopped: None,  # noqa: ARG001
    untrained: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The epochs of an outage come later and in order; a version is registered as soon as MLflow is back."""
    logger = EpochLogger(run_id, certain)
    assert timed(logger, 1) < 10
    assert timed(logger, 2) < 2
    began = time.monotonic()
    logger.flush()
    assert time.monotonic() - began < 16
    assert "2 epochs could not be logged" in caplog.text
    model, tags = trained(untrained.parent, untrained), {"flow_run_id": "outage"}

    @flow
    def registering() -> int:
        patient = registry.register_version.with_options(retry_delay_seconds=2, retries=20)
        version: int = patient("outage", run_id, model, 64, tags, "")
        return version

    with supervisord.connect(stack) as supervisor:
        supervisor.startProcess("mlflow", False)
    assert registering() == 1
    assert "registering a version of outage" in caplog.text  # it did fail before
    assert steps(run_id, "train/box_loss") == []
    logger(epoch(3))
    assert steps(run_id, "train/box_loss") == [1, 2, 3]


def test_a_version_that_mlflow_refuses_is_not_tried_again(
    run_id: str, untrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = trained(untrained.parent, untrained)

    @flow
    def registering() -> int:
        version: int = registry.register_version("a/b", run_id, model, 64, {"flow_run_id": "x"}, "")
        return version

    with pytest.raises(TrackingError, match="registering a version of a/b"):
        registering()
    assert "Beginning flow run" in caplog.text
    # Prefect's words, and those in which tasks.orchestration.run_log puts them.
    assert not re.search(r"Retry 1/|Attempt 1 of", caplog.text)


def until_sampled(run_id: str, samples: int) -> None:
    name = "system/cpu_utilization_percentage"
    eventually(lambda: len(steps(run_id, name)) >= samples, f"{samples} samples of the machine")


def test_the_load_of_the_machine_goes_on_where_it_stopped(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_metrics, "SAMPLE_S", 0.2)
    for samples in (3, 6):
        with live_metrics.system_metrics(run_id):
            until_sampled(run_id, samples)
    found = steps(run_id, "system/cpu_utilization_percentage")
    assert found == list(range(len(found)))
    assert not any("SystemMetrics" in thread.name for thread in threading.enumerate())


def test_the_load_of_the_machine_is_logged_again_after_an_outage(
    run_id: str, asleep: list[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(live_metrics, "SAMPLE_S", 0.2)
    monkeypatch.setattr(live_metrics, "RESTART_S", 0.2)
    with live_metrics.system_metrics(run_id):
        until_sampled(run_id, 1)
        send(asleep, psutil.Process.suspend)
        time.sleep(1.5)  # a request is given up
        send(asleep, psutil.Process.resume)
        until_sampled(run_id, len(steps(run_id, "system/cpu_utilization_percentage")) + 5)
    found = steps(run_id, "system/cpu_utilization_percentage")
    # A request that was given up may have arrived all the same: its step is there twice.
    assert found == sorted(found)
    assert sorted(set(found)) == list(range(found[-1] + 1))


def test_without_mlflow_the_load_is_not_logged_and_nothing_fails(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = []
    with live_metrics.system_metrics(run_id):
        done.append(1)
    assert done

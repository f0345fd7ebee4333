"""Steps of Ultralytics: rehearse, train, evaluate, each in a process of its own (`tasks.training.trainer`)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.orchestration.step import retried_step, step
from tasks.parameters import TrainingParams
from tasks.training.checkpoints import RestoredCheckpoint
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import (
    EvaluationJob,
    EvaluationTarget,
    Failure,
    ReferencePredictionJob,
    TrainerEvent,
    TrainingJob,
    first_device,
)
from tasks.training.process import run_job
from tasks.training.retry_policy import RetryState, next_attempt
from tasks.vision.metrics import Scores
from tasks.vision.predictions import PredictionStore

ARCHITECTURE = re.compile(r"yolo(v?\d{1,2})[nsmlxtbce]?(-(seg|cls|pose|obb|p2|p6))*\.yaml")
OFFICIAL_WEIGHTS = re.compile(r"yolo(v?\d{1,2})[nsmlxtbce]u?(-(seg|cls|pose|obb))?\.pt")
SMOKE_TEST_IMAGE_SIZE = 128

EpochListener = Callable[[EpochResult], None]


class TrainingError(StudioError):
    """The training cannot begin, or broke off."""


class Checkpoints(Protocol):
    """Keeps what a training needs to be carried on."""

    def keep(self, epoch: EpochResult) -> None:
        """Keep the checkpoint of an epoch, where its file is still there."""

    def restore(self, folder: Path) -> RestoredCheckpoint | None:
        """Return the newest checkpoint that is whole, downloaded into `folder`."""


def resolve_base_model(base_model: str, fetched: Path | None, folder: Path) -> str:
    """What to begin from: weights that were fetched, an architecture, or official weights, downloaded into `folder`.

    Raises TrainingError for any other name: weights are pickles, so none is loaded from a place we do not know.
    """
    if fetched is not None:
        return str(fetched)
    if ARCHITECTURE.fullmatch(base_model):
        return base_model
    if OFFICIAL_WEIGHTS.fullmatch(base_model):
        return str(folder / base_model)
    raise TrainingError(
        f"Expected base_model to be an object in bucket 'base-models', a version of this registry such as "
        f"'models:/NAME@champion', an Ultralytics architecture such as 'yolo11n.yaml', or official weights such as "
        f"'yolo11n.pt'; found {base_model!r}, which is none of them. Upload weights that you trust to bucket "
        f"'base-models' and name their key."
    )


def ultralytics_arguments(training: TrainingParams, **others: object) -> dict[str, Any]:
    """What Ultralytics' trainer is given."""
    chosen = training.model_dump(exclude={"rehearse"}) | {"verbose": False} | others
    return {name: value for name, value in chosen.items() if value is not None}


def training_job(data: Path, task: str, model: str, training: TrainingParams, folder: Path) -> TrainingJob:
    """What to train on `data` (as Ultralytics takes it), from the result of `resolve_base_model`, in a new folder."""
    folder.mkdir()
    return TrainingJob(model, task, data, folder, ultralytics_arguments(training))


@step
def run_smoke_test(job: TrainingJob, training: TrainingParams) -> TrainedModel:
    """Train one epoch on the few small images of the job's data, and evaluate it; nothing is drawn.

    Raises TrainingError with the reason for which the real training would have failed.
    """
    small = {"epochs": 1, "imgsz": SMOKE_TEST_IMAGE_SIZE, "batch": 8, "device": first_device(training.device)}
    # Drawing, which cannot end a training, and what determinism imports would be half of the time.
    quick = {"plots": False, "deterministic": False}
    outcome: list[TrainedModel] = []
    failure = run_job(
        replace(job, arguments=ultralytics_arguments(training, **small, **quick)),
        lambda told: outcome.extend(message for message in told if isinstance(message, TrainedModel)),
    )
    if not outcome:
        raise TrainingError(
            f"The rehearsal on a few images failed, so the training was not begun: {_explained(job, failure)} "
            f"(training.rehearse = false goes without a rehearsal.)"
        )
    return outcome[0]


@retried_step
def train(
    job: TrainingJob,
    checkpoints: Checkpoints,
    listeners: Sequence[EpochListener] = (),
    pulse: Callable[[], None] | None = None,
) -> TrainedModel:
    """Train on the merged dataset, on from the newest checkpoint where there is one.

    Keeps a checkpoint and calls each listener after every epoch, and `pulse` every few seconds; what a listener raises
    is logged and never stops the training. Too little memory halves the batch; a training process that was killed is
    started again. Raises TrainingError for anything else.
    """
    log, outcome = get_run_logger(), _Outcome(checkpoints, listeners)
    attempt, devices = RetryState(int(job.arguments["batch"])), str(job.arguments.get("device", "")).count(",") + 1
    while True:
        restored = checkpoints.restore(job.folder)
        if restored is not None:  # an earlier process may have had to halve its batch
            attempt = replace(attempt, batch=min(attempt.batch, restored.manifest.batch))
        outcome.begin(attempt.batch)
        failure = run_job(_log_resumed(job, restored, attempt.batch), outcome.take, pulse)
        if outcome.model is not None:
            return outcome.model
        again = next_attempt(attempt, failure, outcome.epochs, devices) if failure else None
        if again is None:
            log.error("the end of its output:\n%s", failure.output if failure else "")
            raise TrainingError(f"The training stopped: {_explained(job, failure)}")
        log.warning("%s The training goes on with batch %d.", _explained(job, failure), again.batch)
        attempt = again


class _Outcome:
    """Passes on what the training process tells."""

    def __init__(self, checkpoints: Checkpoints, listeners: Sequence[EpochListener]) -> None:
        self.model: TrainedModel | None = None
        self.epochs = self._batch = 0
        self._checkpoints, self._listeners = checkpoints, listeners
        self._log = get_run_logger()

    def begin(self, batch: int) -> None:
        """Another attempt, with this batch."""
        self.epochs, self._batch = 0, batch

    def take(self, told: Sequence[TrainerEvent]) -> None:
        epochs = [message for message in told if isinstance(message, EpochResult)]
        if kept := [epoch for epoch in epochs if epoch.checkpoint]:  # before the others, who may wait for a server
            self._tell(self._checkpoints.keep, kept[-1])
        for epoch in epochs:
            self._count(epoch)
            for listener in self._listeners:
                self._tell(listener, epoch)
        self.model = next((message for message in told if isinstance(message, TrainedModel)), self.model)

    def _count(self, epoch: EpochResult) -> None:
        if epoch.restored:
            return
        self.epochs += 1
        if epoch.batch < self._batch:
            self._log.warning("There was too little memory. The training goes on with batch %d.", epoch.batch)
            self._batch = epoch.batch

    def _tell(self, listener: EpochListener, epoch: EpochResult) -> None:
        try:
            listener(epoch)
        except Exception as error:  # noqa: BLE001 - whatever a listener raises, hours of training are worth more
            told = "epoch %d could not be reported, training goes on: %s"
            self._log.warning(told, epoch.number, error, exc_info=not isinstance(error, StudioError))


def _log_resumed(job: TrainingJob, restored: RestoredCheckpoint | None, batch: int) -> TrainingJob:
    job = replace(job, arguments=dict(job.arguments) | {"batch": batch})
    if restored is None:
        return job
    found = restored.manifest
    get_run_logger().info("carrying on after epoch %d", found.epoch)
    return replace(
        job,
        checkpoint=restored.weights,
        best=restored.best,
        best_epoch=found.best,
        finished=found.last,
    )


@step
def evaluate(subjects: Sequence[EvaluationTarget], task: str, training: TrainingParams, folder: Path) -> list[Scores]:
    """Evaluate models of one task, each on its data, in the existing `folder`; returns their scores in order.

    Raises TrainingError where one cannot be evaluated.
    """
    found: list[Scores] = []
    job = EvaluationJob(tuple(subjects), task, folder, training.batch, first_device(training.device), training.workers)
    failure = run_job(job, lambda told: found.extend(message for message in told if isinstance(message, Scores)))
    if len(found) < len(subjects):
        raise TrainingError(f"{subjects[len(found)].weights.name} could not be evaluated: {_reason(failure)}")
    return found


@step
def predict_reference(
    weights: Path, sample: Path, served: Path, task: str, image_size: int, folder: Path
) -> tuple[PredictionStore, Scores, Scores]:
    """What the weights find in the images of a validation sample (a zip), and the scores of these and of `served`.

    `served` is the folder that `serving.parity` filled; the existing `folder` takes the rest.
    Raises TrainingError where the weights cannot be asked.
    """
    told: list[Scores] = []
    job = ReferencePredictionJob(weights, sample, served, folder / "reference", image_size, task, folder)
    failure = run_job(job, lambda messages: told.extend(said for said in messages if isinstance(said, Scores)))
    if len(told) < 2:
        raise TrainingError(f"{weights.name} could not be asked for comparison: {_reason(failure)}")
    return PredictionStore(job.reference), told[0], told[1]


def _reason(failure: Failure | None) -> str:
    return failure.reason if failure else "its process ended without a word"


def _explained(job: TrainingJob, failure: Failure | None) -> str:
    reason = _reason(failure)
    wanted = Path(job.model)
    if OFFICIAL_WEIGHTS.fullmatch(wanted.name) and not wanted.is_file():
        reason += (
            f" {wanted.name} could not be downloaded: put the file into bucket 'base-models', or train from a .yaml."
        )
    return reason

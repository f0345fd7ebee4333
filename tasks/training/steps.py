"""Steps of Ultralytics: rehearse, train, evaluate, each in a process of its own (`tasks.training.trainer`)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.files import MAKE_ROOM, is_on_full_disk
from tasks.orchestration.step import retried_step, step
from tasks.parameters import TrainingParams
from tasks.training.base_models import require_official
from tasks.training.checkpoints import RestoredCheckpoint
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import (
    EvaluationJob,
    EvaluationTarget,
    Failure,
    Job,
    ReferencePredictionJob,
    TrainerEvent,
    TrainingJob,
    first_device,
)
from tasks.training.process import run_job
from tasks.training.restarts import Attempt, next_attempt
from tasks.vision.metrics import Scores
from tasks.vision.predictions import PredictionStore

SMOKE_TEST_IMAGE_SIZE = 128

EpochListener = Callable[[EpochResult], None]
Event = TypeVar("Event", bound=TrainerEvent)


class TrainingError(StudioError):
    """A training cannot begin, or stopped."""


class Checkpoints(Protocol):
    """Keeps what a training needs to resume."""

    def keep(self, epoch: EpochResult) -> None:
        """Keep the checkpoint of an epoch, if its file is still there."""

    def restore(self, folder: Path) -> RestoredCheckpoint | None:
        """Return the newest checkpoint that is whole, downloaded into `folder`."""


def resolve_base_model(base_model: str, fetched: Path | None, folder: Path) -> str:
    """Return the model to begin from: fetched weights, an architecture, or official weights, to come into `folder`.

    Raises:
        BaseModelError: Any other name, or a model from which nothing can be trained.
    """
    if fetched is not None:
        return str(fetched)
    require_official(base_model)
    return base_model if base_model.endswith(".yaml") else str(folder / base_model)


def ultralytics_arguments(training: TrainingParams, **others: object) -> dict[str, Any]:
    """Return the arguments of Ultralytics' trainer."""
    own = training.model_dump(exclude={"rehearse", "overrides", "pseudo_weight"})
    # The merge makes one class of all; Ultralytics would call it otherwise in weights, and labels would not match.
    overrides = {name: value for name, value in training.chosen_overrides.items() if name != "single_cls"}
    chosen = overrides | own | {"verbose": False} | others
    return {name: value for name, value in chosen.items() if value is not None}


def training_job(data: Path, task: str, model: str, training: TrainingParams, folder: Path) -> TrainingJob:
    """Return the job that trains the result of `resolve_base_model` on `data`, in a new folder."""
    folder.mkdir()
    return TrainingJob(
        model=model,
        task=task,
        data=data,
        folder=folder,
        arguments=ultralytics_arguments(training),
        pseudo_weight=training.pseudo_weight,
    )


@step
def run_smoke_test(job: TrainingJob, training: TrainingParams) -> TrainedModel:
    """Train one epoch on the few small images of the job's data, and evaluate it; nothing is drawn.

    Raises:
        TrainingError: The real training would have failed for the same reason.
    """
    small = {"epochs": 1, "imgsz": SMOKE_TEST_IMAGE_SIZE, "batch": 8, "device": first_device(training.device)}
    # Plots, which cannot end a training, and the imports of determinism would be half of the time.
    quick = {"plots": False, "deterministic": False}
    models, failure = _events_of(
        replace(job, arguments=ultralytics_arguments(training, **small, **quick)), TrainedModel
    )
    if not models:
        raise TrainingError(
            f"The rehearsal on a few images failed, so the training was not begun: {_reason(failure, job.folder)} "
            f"(training.rehearse = false goes without a rehearsal.)"
        )
    return models[0]


@retried_step
def train(
    job: TrainingJob,
    checkpoints: Checkpoints,
    listeners: Sequence[EpochListener] = (),
    pulse: Callable[[], None] | None = None,
) -> TrainedModel:
    """Train on the merged dataset, from the newest checkpoint if there is one.

    After every epoch its checkpoint is kept and each listener called, whose errors are only logged; `pulse` is called
    every few seconds.

    Raises:
        TrainingError: The process failed, and not for too little memory or a kill, after which it is started again.
    """
    log = get_run_logger()
    outcome = _Outcome(checkpoints, listeners)
    attempt = Attempt(int(job.arguments["batch"]))
    devices = str(job.arguments.get("device", "")).count(",") + 1
    while True:
        restored = checkpoints.restore(job.folder)
        if restored is not None:  # an earlier process may have halved its batch
            attempt = replace(attempt, batch=min(attempt.batch, restored.manifest.batch))
        outcome.begin(attempt.batch)
        failure = run_job(_resume(job, restored, attempt.batch), outcome.take, pulse)
        if outcome.model is not None:
            return outcome.model
        again = next_attempt(attempt, failure, outcome.epochs, devices) if failure else None
        if again is None:
            log.error("the end of its output:\n%s", failure.output if failure else "")
            raise TrainingError(f"The training stopped: {_reason(failure, job.folder)}")
        log.warning("%s The training goes on with batch %d.", _reason(failure, job.folder), again.batch)
        attempt = again


class _Outcome:
    """Passes the events of the training process on."""

    def __init__(self, checkpoints: Checkpoints, listeners: Sequence[EpochListener]) -> None:
        self.model: TrainedModel | None = None
        self.epochs = 0
        self._batch = 0
        self._checkpoints = checkpoints
        self._listeners = listeners
        self._log = get_run_logger()

    def begin(self, batch: int) -> None:
        """Another attempt, with this batch."""
        self.epochs = 0
        self._batch = batch

    def take(self, events: Sequence[TrainerEvent]) -> None:
        epochs = [event for event in events if isinstance(event, EpochResult)]
        if kept := [epoch for epoch in epochs if epoch.checkpoint]:  # before the listeners, who may wait for a server
            self._call(self._checkpoints.keep, kept[-1])
        for epoch in epochs:
            self._count(epoch)
            for listener in self._listeners:
                self._call(listener, epoch)
        self.model = next((event for event in events if isinstance(event, TrainedModel)), self.model)

    def _count(self, epoch: EpochResult) -> None:
        if epoch.restored:
            return
        self.epochs += 1
        if epoch.batch < self._batch:
            self._log.warning("There was too little memory. The training goes on with batch %d.", epoch.batch)
            self._batch = epoch.batch

    def _call(self, listener: EpochListener, epoch: EpochResult) -> None:
        try:
            listener(epoch)
        except Exception as error:  # noqa: BLE001 - hours of training are worth more than any listener
            message = "epoch %d could not be reported, training goes on: %s"
            self._log.warning(message, epoch.number, error, exc_info=not isinstance(error, StudioError))


def _resume(job: TrainingJob, restored: RestoredCheckpoint | None, batch: int) -> TrainingJob:
    job = replace(job, arguments=dict(job.arguments) | {"batch": batch})
    if restored is None:
        return job
    manifest = restored.manifest
    get_run_logger().info("carrying on after epoch %d", manifest.epoch)
    return replace(
        job, checkpoint=restored.weights, best=restored.best, best_epoch=manifest.best, finished=manifest.last
    )


@step
def evaluate(subjects: Sequence[EvaluationTarget], task: str, training: TrainingParams, folder: Path) -> list[Scores]:
    """Return the scores of models of one task, each on its data, in order; `folder` exists.

    Raises:
        TrainingError: One cannot be evaluated.
    """
    job = EvaluationJob(
        subjects=tuple(subjects),
        task=task,
        folder=folder,
        batch=training.batch,
        device=first_device(training.device),
        workers=training.workers,
    )
    scores, failure = _events_of(job, Scores)
    if len(scores) < len(subjects):
        raise TrainingError(f"{subjects[len(scores)].weights.name} could not be evaluated: {_reason(failure, folder)}")
    return scores


@step
def predict_reference(
    weights: Path, sample: Path, served: Sequence[Path], task: str, image_size: int, folder: Path
) -> tuple[PredictionStore, list[Scores]]:
    """Return the detections of the weights in a validation sample (a zip), and the scores of these and of `served`.

    `served` are the folders that `serving.parity` filled; the existing `folder` takes the rest.

    Raises:
        TrainingError: The weights cannot predict.
    """
    job = ReferencePredictionJob(
        weights=weights,
        sample=sample,
        served=tuple(served),
        reference=folder / "reference",
        image_size=image_size,
        task=task,
        folder=folder,
    )
    scores, failure = _events_of(job, Scores)
    if len(scores) < 1 + len(served):
        raise TrainingError(f"{weights.name} gave no predictions for comparison: {_reason(failure, folder)}")
    return PredictionStore(job.reference), scores


def _events_of(job: Job, kind: type[Event]) -> tuple[list[Event], Failure | None]:
    """Do a job; returns its events of one kind, and why it failed."""
    events: list[TrainerEvent] = []
    failure = run_job(job, events.extend)
    return [event for event in events if isinstance(event, kind)], failure


def _reason(failure: Failure | None, folder: Path) -> str:
    reason = failure.reason if failure else "its process ended without a word"
    return f"{reason} There is no room in {folder}. {MAKE_ROOM}" if is_on_full_disk(folder) else reason

"""Steps of Ultralytics: rehearse, train, evaluate, each in a process of its own (`tasks.training.trainer`)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from prefect import get_run_logger, runtime
from prefect import task as prefect_task
from prefect.context import TaskRunContext
from pydantic import BaseModel

from tasks.orchestration.step import retried_step, step
from tasks.parameters import TrainingParams
from tasks.training import attempts
from tasks.training.attempts import Checkpoints, EpochListener, TrainingError, failure_reason
from tasks.training.base_models import require_official
from tasks.training.evaluation_key import evaluation_key
from tasks.training.events import TrainedModel
from tasks.training.job import (
    EvaluationJob,
    EvaluationTarget,
    Failure,
    Job,
    ReferencePredictionJob,
    TrainerEvent,
    TrainingJob,
    first_device,
    from_json_line,
    to_json_line,
)
from tasks.training.process import run_job
from tasks.vision.metrics import Scores
from tasks.vision.predictions import PredictionStore

SMOKE_TEST_IMAGE_SIZE = 128

Event = TypeVar("Event", bound=TrainerEvent)


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
    own = training.model_dump(exclude={"rehearse", "overrides", "pseudo_weight", "cache"})
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
        cache=training.cache,
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
        replace(job, arguments=ultralytics_arguments(training, **small, **quick), cache="none"), TrainedModel
    )
    if not models:
        reason = failure_reason(failure, job.folder)
        raise TrainingError(
            f"The rehearsal on a few images failed, so the training was not begun: {reason} "
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
    """Do `tasks.training.attempts.train` with the log of the run.

    Raises:
        TrainingError: The process failed, and not for too little memory or a kill, after which it is started again.
    """
    return attempts.train(job, checkpoints, get_run_logger(), listeners, pulse)


@step
def evaluate(subjects: Sequence[EvaluationTarget], task: str, training: TrainingParams, folder: Path) -> list[Scores]:
    """Return the scores of models of one task, each on its data, in order; `folder` exists.

    Raises:
        TrainingError: One cannot be evaluated.
    """
    scores, failure = _events_of(_evaluation_job(subjects, task, training, folder), Scores)
    if len(scores) < len(subjects):
        raise TrainingError(
            f"{subjects[len(scores)].weights.name} could not be evaluated: {failure_reason(failure, folder)}"
        )
    return scores


def _evaluation_job(
    subjects: Sequence[EvaluationTarget], task: str, training: TrainingParams, folder: Path
) -> EvaluationJob:
    return EvaluationJob(
        subjects=tuple(subjects),
        task=task,
        folder=folder,
        batch=training.batch,
        device=first_device(training.device),
        workers=training.workers,
    )


class KeptScores(BaseModel):
    """Scores as `to_json_line` writes them, and the flow run that made them, by id and by name."""

    scores: str
    flow_run_id: str
    flow_run_name: str


def evaluate_once(target: EvaluationTarget, task: str, training: TrainingParams, folder: Path) -> Scores:
    """Return the scores of a model on its data, those of an earlier run if it measured the same with the same.

    Raises:
        TrainingError: It cannot be evaluated.
        OSError: A file of the data cannot be read.
    """
    key = evaluation_key(target, _evaluation_job([target], task, training, folder))
    kept = evaluate_cached(target, task, training, folder, key)
    if kept.flow_run_id != str(runtime.flow_run.id):
        get_run_logger().info("measured on the same images before, by run '%s'", kept.flow_run_name)
    scores: Scores = from_json_line(kept.scores)
    return scores


def _cache_key(_context: TaskRunContext, arguments: dict[str, Any]) -> str:
    return str(arguments["key"])


@prefect_task(cache_key_fn=_cache_key, persist_result=True, result_serializer="json")
def evaluate_cached(
    target: EvaluationTarget,
    task: str,
    training: TrainingParams,
    folder: Path,
    key: str,  # noqa: ARG001 - by which the outcome is kept
) -> KeptScores:
    """Evaluate a model on its data, cached by `evaluation_key`."""
    (scores,) = evaluate.fn([target], task, training, folder)
    run = runtime.flow_run
    return KeptScores(scores=to_json_line(scores), flow_run_id=str(run.id), flow_run_name=str(run.name))


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
        raise TrainingError(f"{weights.name} gave no predictions for comparison: {failure_reason(failure, folder)}")
    return PredictionStore(job.reference), scores


def _events_of(job: Job, kind: type[Event]) -> tuple[list[Event], Failure | None]:
    """Do a job; returns its events of one kind, and why it failed."""
    events: list[TrainerEvent] = []
    failure = run_job(job, events.extend)
    return [event for event in events if isinstance(event, kind)], failure

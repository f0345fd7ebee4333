"""Outcomes of trainings that never were, for the steps that keep them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tasks.tracking import runs
from tasks.training.events import EpochResult, TrainedModel
from tasks.vision.metrics import PRIMARY_METRIC, Scores

LINEAGE = {"base_model": "yolo11n.yaml", "archives": '{"a.zip": "aa"}', "git_commit": "unknown"}


def trained(
    folder: Path, weights: Path, task: str = "detect", classes: tuple[str, ...] = ("cat", "dog")
) -> TrainedModel:
    """A model whose first class is at 0.25, the second at 0.5, and those after it not in validation."""
    main = PRIMARY_METRIC[task]
    shown = dict(zip(classes, ({main: 0.25}, {main: 0.5}), strict=False))
    scores = Scores(task=task, metrics={main: 0.375, "precision": 0.5}, classes=shown, images=7)
    return TrainedModel(
        weights=weights, folder=folder, task=task, class_names=classes, scores=scores, epochs=3, best_epoch=2, batch=8
    )


def epoch(number: int, *, restored: bool = False, extra: Mapping[str, float] | None = None) -> EpochResult:
    values = {"train/box_loss": 1 / number, **(extra or {})}
    return EpochResult(number=number, total_epochs=10, metrics=values, seconds=2.5, batch=8, restored=restored)


def opened(flow_run_id: str, fingerprint: str = "f1", **parameters: object) -> str:
    """The id of the run of a flow run."""
    tags = LINEAGE | {"flow_run_id": flow_run_id}
    run_id: str = runs.open_run.fn("happy-otter", fingerprint, tags, {"epochs": 3, **parameters}).id
    return run_id


def run(run_id: str) -> Run:
    found: Run = MlflowClient().get_run(run_id)
    return found


def steps(run_id: str, metric: str) -> list[int]:
    history: list[Any] = MlflowClient().get_metric_history(run_id, metric)
    return [value.step for value in history]

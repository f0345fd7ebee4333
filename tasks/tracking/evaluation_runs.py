"""Evaluations at the run and at the version that they are of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.orchestration.step import retried_step, step
from tasks.tracking.mlflow_client import TrackingError, best_effort, configure_mlflow, log_batch, tracking_errors
from tasks.tracking.payloads import MAX_TAG, truncate
from tasks.tracking.registry import ModelVersion

THRESHOLDS = "thresholds.json"


@dataclass(frozen=True, kw_only=True)
class KeptThresholds:
    """Confidences by class name, without classes that have none, and what they were computed on, by which flow run."""

    by_class: Mapping[str, float]
    archives: tuple[str, ...]
    split: str
    flow_run_id: str


@step
def log_evaluation(
    run_id: str, flow_run_id: str, metrics: Mapping[str, float], page: str, facts: Mapping[str, object]
) -> None:
    """Log the metrics of an evaluation, its page and all its figures at a version's run; never raises."""
    with best_effort("the evaluation") as mlflow:
        log_batch(mlflow, run_id, metrics)
        mlflow.log_text(run_id, page, f"evaluations/{flow_run_id}.html")
        mlflow.log_dict(run_id, dict(facts), f"evaluations/{flow_run_id}.json")


@retried_step
def keep_thresholds(
    version: ModelVersion, thresholds: Mapping[str, Mapping[str, Any]], source: Mapping[str, object]
) -> None:
    """Keep the thresholds by class name with a version: in `thresholds.json` of its run, and in short in its tag.

    Tag `thresholds` is JSON of the confidences that were found, by class name, as far as a tag can hold them.
    """
    tag = truncate(json.dumps(_confidences(thresholds)), MAX_TAG)
    with tracking_errors(f"keeping the thresholds of {version.name} version {version.version}") as mlflow:
        mlflow.log_dict(version.run_id, {"thresholds": dict(thresholds), **source}, THRESHOLDS)
        for name, value in (("thresholds", tag), ("thresholds_from", json.dumps(dict(source)))):
            mlflow.set_model_version_tag(version.name, str(version.version), name, value)


@retried_step
def find_thresholds(model_name: str, version: int) -> KeptThresholds | None:
    """Return what is kept with a version; None if no evaluation has kept thresholds there.

    Raises:
        TrackingError: What is kept is none of ours, or MLflow cannot be reached.
    """
    import mlflow.artifacts

    with tracking_errors(f"reading the thresholds of {model_name} version {version}") as client:
        entry = client.get_model_version(model_name, str(version))
        if "thresholds_from" not in entry.tags:
            return None
        configure_mlflow()
        kept = mlflow.artifacts.load_dict(f"runs:/{entry.run_id}/{THRESHOLDS}")
    try:
        return KeptThresholds(
            by_class={name: float(value) for name, value in _confidences(kept["thresholds"]).items()},
            archives=tuple(kept["archives"]),
            split=str(kept["split"]),
            flow_run_id=str(kept["flow_run_id"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrackingError(
            f"Expected the thresholds of an evaluation in {THRESHOLDS} of the run of {model_name} version {version}, "
            f"found another file ({error!r}). Run evaluate-model on the version again."
        ) from error


def read_thresholds(model_name: str, version: int) -> Mapping[str, float]:
    """Return the confidences that are kept with a version, by class name.

    Raises:
        TrackingError: None are kept, or MLflow cannot be reached.
    """
    kept = find_thresholds(model_name, version)
    if kept is None:
        raise TrackingError(
            f"Expected thresholds with {model_name} version {version} for inference.confidence auto, found none. "
            "Run evaluate-model on it first, or give a number."
        )
    return kept.by_class


def _confidences(thresholds: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {name: each["confidence"] for name, each in thresholds.items() if each["confidence"] is not None}

"""Evaluations at the run and at the version that they are of."""

import json
from collections.abc import Mapping
from typing import Any

from tasks.orchestration.step import retried_step, step
from tasks.tracking.mlflow_client import best_effort, log_batch, tracking_errors
from tasks.tracking.payloads import MAX_TAG
from tasks.tracking.registry import ModelVersion

THRESHOLDS = "thresholds.json"


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
    """Keep the thresholds by class name with a version: whole in `thresholds.json` of its run, in short in its tag.

    Tag `thresholds` is JSON of the confidences that were found, by class name, if that is not too long for a tag.
    """
    confidences = {name: each["confidence"] for name, each in thresholds.items() if each["confidence"] is not None}
    tag = json.dumps(confidences)
    with tracking_errors(f"keeping the thresholds of {version.name} version {version.version}") as mlflow:
        mlflow.log_dict(version.run_id, {"thresholds": dict(thresholds), **source}, THRESHOLDS)
        number = str(version.version)
        mlflow.set_model_version_tag(version.name, number, "thresholds", tag if len(tag) <= MAX_TAG else "{}")
        mlflow.set_model_version_tag(version.name, number, "thresholds_from", json.dumps(dict(source)))

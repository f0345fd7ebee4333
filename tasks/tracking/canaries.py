"""The canary of a model: a tag of the model, which every run of inference reads."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from tasks.inference.worker import PinnedRun
from tasks.orchestration.step import retried_step, step
from tasks.parameters import InferenceParams
from tasks.serving.canary_rules import Canary, routes_to_canary
from tasks.tracking import registry
from tasks.tracking.evaluation_runs import read_thresholds
from tasks.tracking.mlflow_client import logger, tracking_errors

TAG = "canary"


@contextmanager
def announced_canary(model_name: str, canary: Canary, seconds: float) -> Iterator[None]:
    """Have runs of inference take part in a canary during the block; it ends after `seconds` if this process dies."""
    _announce(model_name, canary, time.time() + seconds)
    try:
        yield
    finally:
        end_canary(model_name, canary.flow_run_id)


@retried_step
def _announce(model_name: str, canary: Canary, until: float) -> None:
    tag = json.dumps({**asdict(canary), "until": until})
    with tracking_errors(f"announcing the trial of {model_name} version {canary.version}") as mlflow:
        mlflow.set_registered_model_tag(model_name, TAG, tag)


@retried_step
def end_canary(model_name: str, flow_run_id: str | None = None) -> None:
    """End the canary of a model, if any; with `flow_run_id` only that of this flow run."""
    with tracking_errors(f"ending the trial of a version of {model_name}") as mlflow:
        tag = mlflow.get_registered_model(model_name).tags.get(TAG)
        if tag and (flow_run_id is None or flow_run_id in tag):
            mlflow.delete_registered_model_tag(model_name, TAG)


@step
def find_canary(model_name: str) -> Canary | None:
    """Return the present canary, if any."""
    with tracking_errors(f"looking for a trial of {model_name}") as mlflow:
        tag = mlflow.get_registered_model(model_name).tags.get(TAG)
    try:
        fields = json.loads(tag) if tag else {}
        return Canary(**fields) if fields.pop("until", 0) >= time.time() else None
    except (ValueError, TypeError, AttributeError):  # a tag of somebody else stops no run of inference
        logger().warning("tag %r of model %s is no trial of ours: %r", TAG, model_name, tag)
        return None


def pin_version(model_name: str, flow_run_id: str, inference: InferenceParams) -> PinnedRun:
    """Return what holds for a whole run of inference: the champion, or the version that a canary gives this run.

    With `confidence` auto the thresholds of that version hold too, but for classes that `class_confidence` names.

    Raises:
        TrackingError: There is no champion, it has no thresholds, or MLflow cannot be reached.
    """
    champion = registry.champion_version(model_name)
    canary = find_canary(model_name)
    version = canary.version if canary and routes_to_canary(canary, flow_run_id) else champion
    if inference.confidence == "auto":
        thresholds = {**read_thresholds(model_name, version), **inference.class_confidence}
        inference = inference.model_copy(update={"class_confidence": thresholds})
    return PinnedRun(
        model_name=model_name,
        version=version,
        canary_run=canary.flow_run_id if canary else None,
        inference=inference,
    )

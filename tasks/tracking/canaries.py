"""The trial of a new version: a tag of the model says which, so that every run of inference can look it up."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.orchestration.step import retried_step, step
from tasks.serving.canary_rules import Canary
from tasks.tracking.mlflow_client import client, logger, mlflow_errors_as_tracking_error

TAG = "canary"


@contextmanager
def announced_canary(model_name: str, canary: Canary, seconds: float) -> Iterator[None]:
    """Say so for the length of the block; for longer than `seconds` nobody believes it, should this process die."""
    _announce(model_name, canary, time.time() + seconds)
    try:
        yield
    finally:
        end_canary(model_name, canary.flow_run_id)


@retried_step
def _announce(model_name: str, canary: Canary, until: float) -> None:
    said = {"version": canary.version, "share": canary.share, "flow_run_id": canary.flow_run_id, "until": until}
    with mlflow_errors_as_tracking_error(f"announcing the trial of {model_name} version {canary.version}"):
        client().set_registered_model_tag(model_name, TAG, json.dumps(said))


@retried_step
def end_canary(model_name: str, flow_run_id: str | None = None) -> None:
    """No run gets a version that is tried out any more; one that was killed leaves such a trial behind.

    With `flow_run_id` only the trial of that flow run ends: another may have begun its own.
    """
    mlflow = client()
    with mlflow_errors_as_tracking_error(f"ending the trial of a version of {model_name}"):
        tag = mlflow.get_registered_model(model_name).tags.get(TAG)
        if tag and (flow_run_id is None or flow_run_id in tag):
            mlflow.delete_registered_model_tag(model_name, TAG)


@step
def find_canary(model_name: str) -> Canary | None:
    """The trial that goes on now, if any."""
    with mlflow_errors_as_tracking_error(f"looking for a trial of {model_name}"):
        tag = client().get_registered_model(model_name).tags.get(TAG)
    try:
        said = json.loads(tag) if tag else {}
        return Canary(**said) if said.pop("until", 0) >= time.time() else None
    except (ValueError, TypeError, AttributeError):  # somebody else's tag is no reason to stop a run of inference
        logger().warning("tag %r of model %s is no trial of ours: %r", TAG, model_name, tag)
        return None

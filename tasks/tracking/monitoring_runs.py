"""The monitoring of a version, as one run of experiment `monitoring`: each time adds a point to its curves."""

import json
from collections.abc import Mapping, Sequence

from tasks.orchestration.step import retried_step, step
from tasks.tracking.mlflow_client import MONITORING, best_effort, experiment_id, log_batch, tracking_errors
from tasks.tracking.registry import ModelVersion

_TAG = "drifted"


@step
def log_monitoring(version: ModelVersion, flow_run_id: str, metrics: Mapping[str, float], time_ms: int) -> str | None:
    """Add the metrics of a time, in milliseconds since 1970, to the run of a version; returns its id. Never raises."""
    run_id: str | None = None
    with best_effort(f"the monitoring of {version.name} version {version.version}") as mlflow:
        experiment = experiment_id(mlflow, MONITORING)
        tags = {"model": version.name, "version": str(version.version)}
        condition = " AND ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
        earlier = mlflow.search_runs([experiment], condition, max_results=1)
        name = f"{version.name} version {version.version}"
        found = earlier[0] if earlier else mlflow.create_run(experiment, run_name=name, tags=tags)
        run_id = str(found.info.run_id)
        log_batch(mlflow, run_id, metrics, {"flow_run_id": flow_run_id}, step=time_ms // 1000, time_ms=time_ms)
        mlflow.set_terminated(run_id)
    return run_id


@retried_step
def read_drifted(version: ModelVersion) -> tuple[str, ...]:
    """Return what the last monitoring has told to have drifted; nothing if there was none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with tracking_errors(f"reading what drifted for {version.name} version {version.version}") as mlflow:
        tag = mlflow.get_model_version(version.name, str(version.version)).tags.get(_TAG, "[]")
    try:
        return tuple(map(str, json.loads(tag)))
    except (ValueError, TypeError):  # a tag of somebody else
        return ()


@retried_step
def keep_drifted(version: ModelVersion, drifted: Sequence[str]) -> None:
    """Tag a version with what has drifted.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with tracking_errors(f"keeping what drifted for {version.name} version {version.version}") as mlflow:
        mlflow.set_model_version_tag(version.name, str(version.version), _TAG, json.dumps(list(drifted)))

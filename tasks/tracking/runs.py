"""Trainings, as runs of experiment `training`.

Each call names the run by its id: without an active run of the process nothing else can log into it.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prefect.exceptions import Pause

from tasks.errors import Superseded
from tasks.orchestration.step import retried_step, step
from tasks.promotion.rules import Decision, decision_facts, decision_tags
from tasks.settings import Settings
from tasks.storage.object_names import Bucket, parse_s3_uri
from tasks.tracking import owners
from tasks.tracking.lineage import BASE_DIGEST
from tasks.tracking.mlflow_client import (
    TRAINING,
    best_effort,
    client,
    experiment_id,
    log_batch,
    log_errors,
    logger,
    tracking_errors,
)
from tasks.tracking.payloads import MAX_PARAMETER, decision_metrics, mlflow_metrics, truncate
from tasks.training.events import TrainedModel

OPEN = ("RUNNING", "SCHEDULED")  # SCHEDULED: its flow run is suspended
_STATUS_AFTER = ((Superseded, ""), (Pause, "SCHEDULED"), (Exception, "FAILED"), (BaseException, "KILLED"))
PICTURES = ("*.jpg", "*.png", "*.csv", "*.yaml")


class OpenRun(NamedTuple):
    """An open run, with the tags of the origin of its model."""

    id: str
    tags: dict[str, str]


@retried_step
def open_run(
    name: str, fingerprint: str, tags: Mapping[str, str], parameters: Mapping[str, object], carried_on: bool = False
) -> OpenRun:
    """Open the run of a training, for the flow run in `tags`.

    A flow run that is tried again with the same fingerprint continues in the run that it had, whose parameters stay; so
    does the digest of its base model if it was `carried_on` from a checkpoint. Its other open runs are closed as
    KILLED.
    """
    flow_run_id = tags["flow_run_id"]
    known = {**tags, "fingerprint": fingerprint}
    with tracking_errors("opening a run") as mlflow:
        from mlflow.entities import Param

        experiment = experiment_id(mlflow, TRAINING)
        earlier = mlflow.search_runs([experiment], f"tags.flow_run_id = '{flow_run_id}'", order_by=["start_time ASC"])
        run = next((run for run in earlier if run.data.tags.get("fingerprint") == fingerprint), None)
        for other in earlier:
            if other is not run and other.info.status in OPEN:
                mlflow.set_terminated(other.info.run_id, "KILLED")
        if run is None:
            run = mlflow.create_run(
                experiment,
                run_name=name,
                tags={"flow_run_id": flow_run_id, "fingerprint": fingerprint, **owners.user_tag()},
            )
        elif run.info.status != "RUNNING":
            _reopen(mlflow, run.info.run_id)
        if carried_on and BASE_DIGEST in run.data.tags:
            known[BASE_DIGEST] = run.data.tags[BASE_DIGEST]
        new = {key: value for key, value in parameters.items() if key not in run.data.params}
        mlflow.log_batch(run.info.run_id, params=[Param(key, truncate(new[key], MAX_PARAMETER)) for key in new])
        log_batch(mlflow, run.info.run_id, tags=known)
    logger().info("learning curves as they grow: %s", Settings().addresses.tracked_run(experiment, run.info.run_id))
    return OpenRun(str(run.info.run_id), {key: value for key, value in known.items() if key != "fingerprint"})


def _reopen(mlflow: Any, run_id: str) -> None:  # noqa: ANN401
    """Remove the end of the first attempt, which `update_run` would keep; to MLflow 0 is no end."""
    from mlflow.entities import RunStatus

    mlflow._tracking_client.store.update_run_info(run_id, RunStatus.RUNNING, 0, None)  # noqa: SLF001


@contextlib.contextmanager
def closing_run(run_id: str) -> Iterator[None]:
    """End the run as FINISHED, FAILED or KILLED, by how the block ends.

    A run that another process has taken over stays open; a suspended one waits as SCHEDULED.
    """
    status = "FINISHED"
    try:
        yield
    except BaseException as error:
        status = next(name for kind, name in _STATUS_AFTER if isinstance(error, kind))
        raise
    finally:
        with log_errors("MLflow run %s could not be closed as %s", run_id, status):
            if status in OPEN:
                client().update_run(run_id, status)
            elif status:
                client().set_terminated(run_id, status)


@step
def close_orphaned_runs(is_over: Callable[[str], bool]) -> None:
    """Close as KILLED every open run of a training whose flow run, by its id, `is_over`; never raises.

    A process that was killed leaves its run open.
    """
    with log_errors("abandoned runs of MLflow could not be looked for"):
        mlflow = client()
        experiment = experiment_id(mlflow, TRAINING)
        filters = [f"attributes.status = '{status}'" for status in OPEN]
        for run in [run for each in filters for run in mlflow.search_runs([experiment], each)]:
            run_id = run.info.run_id
            flow_run_id = run.data.tags.get("flow_run_id")
            with log_errors("whether MLflow run %s was abandoned is unknown", run_id):
                if flow_run_id and is_over(flow_run_id):
                    mlflow.set_terminated(run_id, "KILLED")
                    message = "MLflow run %s of flow run %s was left open, it is closed as KILLED"
                    logger().info(message, run_id, flow_run_id)


@step
def log_inputs(run_id: str, archives: Mapping[str, str], plan_digest: str) -> None:
    """Log the archives (SHA-256 in hex by archive) and the merge plan, which MLflow shows as "Datasets used"."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tags = [InputTag("mlflow.data.context", "training"), InputTag("merge_plan", plan_digest)]
    inputs = []
    for archive, digest in archives.items():
        source = json.dumps({"uri": str(parse_s3_uri(archive, Bucket.DATASETS))})
        inputs.append(DatasetInput(Dataset(truncate(archive, 500), digest[:36], "s3", source), tags))
    with best_effort("the archives") as mlflow:
        mlflow.log_inputs(run_id, datasets=inputs)


@step
def log_json(run_id: str, facts: Mapping[str, object], name: str) -> None:
    """Log values as a JSON artifact of the run."""
    with best_effort(name) as mlflow:
        mlflow.log_dict(run_id, dict(facts), name)


@step
def log_page(run_id: str, page: str, name: str) -> None:
    """Log a page of HTML as an artifact of the run."""
    with best_effort(name) as mlflow:
        mlflow.log_text(run_id, page, name)


@step
def log_training(run_id: str, model: TrainedModel) -> None:
    """Log the final metrics, over all classes and for each, and the plots and tables of Ultralytics.

    Errors of MLflow are only logged.
    """
    with best_effort("the final metrics") as mlflow:
        _log_new_metrics(mlflow, run_id, mlflow_metrics(model), model.best_epoch)
    for path in sorted(path for pattern in PICTURES for path in model.folder.glob(pattern)):
        with best_effort(path.name) as mlflow:
            mlflow.log_artifact(run_id, str(path), "plots")


@retried_step
def log_artifact(run_id: str, path: Path) -> None:
    """Log a file that is needed later as an artifact of the run."""
    with tracking_errors(f"keeping {path.name}") as mlflow:
        mlflow.log_artifact(run_id, str(path))


@retried_step
def download_artifact(run_id: str, name: str, folder: Path) -> Path | None:
    """Return an artifact of the run, downloaded into `folder`, which is made if missing; None if there is none."""
    with tracking_errors(f"reading {name}") as mlflow:
        if name not in {artifact.path for artifact in mlflow.list_artifacts(run_id)}:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        return Path(mlflow.download_artifacts(run_id, name, str(folder)))


@step
def log_decision(run_id: str, decision: Decision) -> None:
    """Log whether the version was promoted, and why: in tags, metrics and `promotion.json`.

    MLflow compares versions only by metrics and parameters.
    """
    with best_effort("the promotion") as mlflow:
        _log_new_metrics(mlflow, run_id, decision_metrics(decision), 0)
        log_batch(mlflow, run_id, tags=decision_tags(decision))
        mlflow.log_dict(run_id, decision_facts(decision), "promotion.json")


def _log_new_metrics(mlflow: Any, run_id: str, metrics: Mapping[str, float], step: int) -> None:  # noqa: ANN401
    """Log metrics that the run does not have yet: a retry must not add a second point."""
    logged = mlflow.get_run(run_id).data.metrics
    log_batch(mlflow, run_id, {name: value for name, value in metrics.items() if logged.get(name) != value}, step=step)

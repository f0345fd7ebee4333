"""Steps on MLflow: runs, registered versions and their aliases.

A run is always addressed by its id through `MlflowClient`: no process-wide active run, so nothing else can log into it.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core.epochs import Epoch, TrainedModel, metric_name
from tasks.core.errors import StudioError
from tasks.core.findings import Report
from tasks.core.settings import Settings
from tasks.core.validation.figures import report_figures
from tasks.core.validation.report_markdown import report_sentence

CHAMPION, CHALLENGER = "champion", "challenger"
EXPERIMENT, DATASETS = "training", "datasets"


class TrackingError(StudioError):
    """A model or version is missing, or MLflow does not answer."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version, as its tags describe it."""

    name: str
    version: int
    run_id: str
    task: str
    image_size: int
    class_names: tuple[str, ...]


def client() -> Any:  # noqa: ANN401 - importing mlflow for a type would cost every flow 2 s
    """An MLflow client for the server that the environment names."""
    from mlflow import MlflowClient

    return MlflowClient(Settings().mlflow_tracking_uri)


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn MLflow's errors into a TrackingError that says what was being done and what to do now."""
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        address = Settings().mlflow_tracking_uri
        raise TrackingError(f"MLflow at {address} failed while {doing}: {error} `make status` shows it.") from error


@task(cache_policy=NO_CACHE)
def start_run(name: str, tags: Mapping[str, str], parameters: Mapping[str, object]) -> str:
    """Open a run in experiment `training`; returns its id."""
    from mlflow.entities import Param

    mlflow = client()
    with explained("opening a run"):
        run_id: str = mlflow.create_run(_experiment(mlflow, EXPERIMENT), run_name=name, tags=dict(tags)).info.run_id
        mlflow.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in parameters.items()])
    return run_id


def _experiment(mlflow: Any, name: str) -> str:  # noqa: ANN401
    """Return the id of an experiment, made now where it was missing; another run may make it at the same moment."""
    from mlflow.exceptions import MlflowException

    if found := mlflow.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(mlflow.create_experiment(name))
    except MlflowException:
        if found := mlflow.get_experiment_by_name(name):
            return str(found.experiment_id)
        raise


@contextlib.contextmanager
def closing_run(run_id: str) -> Iterator[None]:
    """End the run as FINISHED, FAILED or KILLED, by how the block ends."""
    ended = "KILLED"
    try:
        yield
        ended = "FINISHED"
    except Exception:
        ended = "FAILED"
        raise
    finally:
        try:
            client().set_terminated(run_id, ended)
        except Exception:  # noqa: BLE001 - the reason the block ended for must not be hidden by this one
            get_run_logger().warning("MLflow run %s could not be closed as %s", run_id, ended, exc_info=True)


class EpochLogger:
    """Logs the metrics of each epoch into one run."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._client = client()

    def __call__(self, epoch: Epoch) -> None:
        """Log one finished epoch, as step `epoch.number`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run_id, metrics=[Metric(name, value, now, epoch.number) for name, value in epoch.metrics.items()]
        )


@contextlib.contextmanager
def optional(what: str) -> Iterator[None]:
    """Log what MLflow refuses, and go on: no figure is worth a training."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException:
        get_run_logger().warning("%s could not be logged", what, exc_info=True)


@task(cache_policy=NO_CACHE)
def log_facts(run_id: str, facts: Mapping[str, object], name: str) -> None:
    """Keep plain values as a JSON artifact of the run."""
    with explained(f"logging {name}"), optional(name):
        client().log_dict(run_id, dict(facts), name)


@task(cache_policy=NO_CACHE)
def log_training(run_id: str, model: TrainedModel) -> None:
    """Keep the final metrics, those of each class, and the curves that Ultralytics drew."""
    mlflow = client()
    with explained("logging the training"), optional("a figure or a picture of the training"):
        for name, value in model.metrics.items():
            mlflow.log_metric(run_id, name.replace("metrics/", "best/"), value)
        for name in model.class_names:
            mlflow.log_metric(
                run_id, "best/mAP50/" + metric_name(name.replace("/", "_"))[:200], model.class_map50.get(name, 0.0)
            )
        for picture in sorted(Path(model.weights).parent.parent.glob("*.[jp][pn]g")):
            mlflow.log_artifact(run_id, str(picture), "plots")


@task(cache_policy=NO_CACHE)
def register_version(
    model_name: str, run_id: str, model: TrainedModel, image_size: int, tags: Mapping[str, str]
) -> int:
    """Register the weights as a loadable version of `model_name`; returns its number."""
    import mlflow
    import ultralytics

    mlflow.set_tracking_uri(Settings().mlflow_tracking_uri)
    described = {
        "task": model.task,
        "image_size": str(image_size),
        "class_names": json.dumps(model.class_names),
        **tags,
    }
    with explained(f"registering a version of {model_name}"):
        with mlflow.start_run(run_id=run_id):  # log_model knows no other way to name its run
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("registered_model.py")),
                artifacts={"weights": model.weights},
                pip_requirements=[f"ultralytics=={ultralytics.__version__}", "pandas"],
            )
        version = mlflow.register_model(logged.model_uri, model_name, tags=described)
    return int(version.version)


@task(cache_policy=NO_CACHE)
def set_alias(model_name: str, alias: str, version: int) -> None:
    """Point an alias at a version."""
    with explained(f"pointing {model_name}@{alias} at version {version}"):
        client().set_registered_model_alias(model_name, alias, str(version))


@task(cache_policy=NO_CACHE)
def find_version(model_name: str, wanted: int | str) -> ModelVersion:
    """A version by number or alias; raises TrackingError that says which there are when it is missing."""
    from mlflow.exceptions import MlflowException

    mlflow = client()
    with explained(f"looking for {model_name} {wanted}"):
        try:
            if isinstance(wanted, int):
                found = mlflow.get_model_version(model_name, str(wanted))
            else:
                found = mlflow.get_model_version_by_alias(model_name, wanted)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            raise TrackingError(_absence(model_name, wanted)) from error
    tags = found.tags
    try:
        names = tuple(json.loads(tags["class_names"]))
        return ModelVersion(model_name, int(found.version), found.run_id, tags["task"], int(tags["image_size"]), names)
    except (KeyError, ValueError) as error:
        raise TrackingError(
            f"Expected {model_name} version {found.version} to carry the tags task, image_size and class_names; "
            f"found {sorted(tags)}. It was not registered by train-model: train it again."
        ) from error


def _absence(model_name: str, wanted: int | str) -> str:
    versions = sorted(int(found.version) for found in client().search_model_versions(f"name = '{model_name}'"))
    if not versions:
        names = ", ".join(model.name for model in client().search_registered_models(max_results=10)) or "none"
        return f"Expected a model {model_name!r}; the registry has {names}. Train it first with train-model/gpu."
    if wanted == CHAMPION:
        return (
            f"Model {model_name!r} has no champion: deploy one of its versions {versions} with deploy-model/gpu first."
        )
    return f"Expected {model_name!r} to have {wanted!r}; found versions {versions}. Name one of those."


@task(cache_policy=NO_CACHE)
def fetch_weights(model: ModelVersion, folder: Path) -> Path:
    """Download the weights of a registered version."""
    import mlflow

    mlflow.set_tracking_uri(Settings().mlflow_tracking_uri)
    with explained(f"reading the weights of {model.name} version {model.version}"):
        uri = f"models:/{model.name}/{model.version}/artifacts"
        root = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    weights = sorted(root.rglob("*.pt"))
    if len(weights) != 1:
        raise TrackingError(f"Expected one .pt file in {uri}, found {[path.name for path in weights]}. Train it again.")
    return weights[0]


@task(cache_policy=NO_CACHE)
def record_dataset(report: Report, page: str, flow_run_id: str) -> str | None:
    """Keep the outcome of a check in experiment `datasets`, in the one run of these bytes; returns its id.

    The newest check is what the run shows. A verdict does not hang on MLflow: where that fails it is logged, and the
    answer is None.
    """
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    tags = {
        "digest": report.digest,
        "archive": report.archive,
        "verdict": report.verdict.value,
        "task": str(report.statistics.task),
        "flow_run_id": flow_run_id,
        "mlflow.note.content": report_sentence(report),
    }
    try:
        with explained(f"recording the check of {report.archive}"):
            mlflow = client()
            run_id = _dataset_run(mlflow, report)
            mlflow.log_batch(
                run_id,
                metrics=[Metric(name, value, now, 0) for name, value in report_figures(report).items()],
                tags=[RunTag(name, value[:5000]) for name, value in tags.items()],
            )
            mlflow.log_text(run_id, page, "report.html")
            mlflow.log_text(run_id, report.model_dump_json(indent=2), "report.json")
            mlflow.set_terminated(run_id, "FINISHED")
    except TrackingError as error:
        get_run_logger().warning("%s The verdict stands all the same.", error)
        return None
    return run_id


def _dataset_run(mlflow: Any, report: Report) -> str:  # noqa: ANN401
    """Return the run of a digest; of two made at the same moment the older one stays."""

    def known() -> list[str]:
        found = mlflow.search_runs(
            [experiment],
            f"tags.digest = '{report.digest}'",
            order_by=["attributes.start_time ASC", "attributes.run_id"],
        )
        return [run.info.run_id for run in found]

    experiment = _experiment(mlflow, DATASETS)
    if runs := known():
        return runs[0]
    made: str = mlflow.create_run(experiment, run_name=report.archive, tags={"digest": report.digest}).info.run_id
    first = next(iter(known()), made)
    if first != made:
        mlflow.delete_run(made)
    return first

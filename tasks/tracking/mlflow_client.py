"""Clients of MLflow, and the meaning of its errors."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext, TaskRunContext

from tasks.errors import StudioError
from tasks.log_lines import outgoing_headers
from tasks.orchestration.retries import RetryPolicy
from tasks.settings import Settings
from tasks.tracking.payloads import MAX_RUN_TAG, truncate

TRAINING = "training"
DATASETS = "datasets"
SERVING = "serving"
INFERENCE = "inference"
MONITORING = "monitoring"

MLFLOW_OUTAGE = RetryPolicy(attempts=3)  # 5 s by MLflow's own pauses; its default of 8 attempts takes 4 minutes
CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": f"{(MLFLOW_OUTAGE.attempts or 1) - 1}",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the links cost two requests a run
}
_RUNS_PER_REQUEST = 200
_FINAL = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"}


class TrackingError(StudioError):
    """A model or version is missing, or MLflow does not answer."""


def client() -> Any:  # noqa: ANN401 - importing mlflow for a type would cost every flow 2 s
    """Return an MLflow client for the server in the environment, which gives up soon if that is down."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    _name_who_asks()
    server = Settings().mlflow_tracking_uri
    return MlflowClient(server, registry_uri=server)


@functools.cache
def _name_who_asks() -> None:
    """Have MLflow's client send the ids of the flow run and of the request, with which the server logs its answer."""
    from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider
    from mlflow.tracking.request_header.registry import _request_header_provider_registry

    class WhoAsks(RequestHeaderProvider):
        def in_context(self) -> bool:
            return True

        def request_headers(self) -> dict[str, str]:
            return outgoing_headers()

    registry: Any = _request_header_provider_registry  # without types
    registry.register(WhoAsks)


def configure_mlflow() -> None:
    """Set the server in the environment for functions of `mlflow` that take no client."""
    import mlflow

    client()  # sets the limits of its requests
    mlflow.set_tracking_uri(Settings().mlflow_tracking_uri)
    mlflow.set_registry_uri(Settings().mlflow_tracking_uri)


def mlflow_errors() -> tuple[type[Exception], ...]:
    """Return the errors of MLflow's client, for a refusal and for no answer."""
    import requests
    from mlflow.exceptions import MlflowException

    return (MlflowException, requests.RequestException)


def is_final(error: BaseException | None) -> bool:
    """Return whether MLflow has refused, and would do so again."""
    return getattr(error, "error_code", None) in _FINAL


@contextlib.contextmanager
def tracking_errors(doing: str) -> Iterator[Any]:
    """Yield a client; errors of MLflow become a TrackingError that names what failed and what to do now."""
    try:
        yield client()
    except mlflow_errors() as error:
        address = Settings().mlflow_tracking_uri
        failed = TrackingError(f"MLflow at {address} failed while {doing}: {error} `studio status` shows it.")
        failed.transient = not is_final(error)
        raise failed from error


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[Any]:
    """Yield a client; errors of MLflow and of files are only logged: no metric is worth a training."""
    expected: tuple[type[Exception], ...] = (*mlflow_errors(), OSError)
    try:
        yield client()
    except expected as error:
        logger().warning("%s could not be logged to MLflow: %s", what, error)


@contextlib.contextmanager
def log_errors(message: str, *values: object) -> Iterator[None]:
    """Log any error of the block and go on; one of MLflow, of the network or of ours without a traceback."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - drivers, kernels and clients fail in many ways
        expected = (*mlflow_errors(), OSError, StudioError)
        logger().warning(message + ": %s", *values, error, exc_info=not isinstance(error, expected))


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the log of the current run, or a plain one outside of a run."""
    return get_run_logger() if TaskRunContext.get() or FlowRunContext.get() else logging.getLogger(__name__)


def experiment_id(mlflow: Any, name: str) -> str:  # noqa: ANN401
    """Return the id of an experiment, made now if it is missing; another run may make it at the same moment."""
    if experiment := mlflow.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    try:
        return str(mlflow.create_experiment(name))
    except mlflow_errors():
        if experiment := mlflow.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        raise


def search_runs(experiment: str, condition: str, order_by: Sequence[str]) -> Iterator[Any]:
    """Yield the runs of an experiment that meet a condition, each once; none if nobody has made the experiment.

    TrackingError if MLflow cannot be reached.
    """
    doing = f"looking for runs of experiment {experiment}"
    seen = set()  # what is added meanwhile moves the others from one answer into the next
    token = None
    with tracking_errors(doing) as mlflow:
        found = mlflow.get_experiment_by_name(experiment)
    while found:
        with tracking_errors(doing) as mlflow:
            runs = mlflow.search_runs(
                [found.experiment_id], condition, max_results=_RUNS_PER_REQUEST, order_by=order_by, page_token=token
            )
        yield from (run for run in runs if run.info.run_id not in seen)
        seen |= {run.info.run_id for run in runs}
        token = runs.token
        if not token:
            return


def quoted(text: str) -> str:
    """Return a text as a condition of MLflow holds it, which has no sign to escape a quote with."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def log_batch(
    mlflow: Any,  # noqa: ANN401
    run_id: str,
    metrics: Mapping[str, float] = {},
    tags: Mapping[str, object] = {},
    step: int = 0,
    time_ms: int | None = None,
) -> None:
    """Log metrics, of now or of `time_ms`, and tags, cut to the length that MLflow keeps."""
    from mlflow.entities import Metric, RunTag

    time_ms = time_ms or int(time.time() * 1000)
    mlflow.log_batch(
        run_id,
        metrics=[Metric(name, value, time_ms, step) for name, value in metrics.items()],
        tags=[RunTag(name, truncate(value, MAX_RUN_TAG)) for name, value in tags.items()],
    )

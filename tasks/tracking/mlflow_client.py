"""The way to MLflow, and what its failures mean."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext, TaskRunContext

from tasks.errors import StudioError
from tasks.settings import Settings

TRAINING, DATASETS, SERVING, INFERENCE = "training", "datasets", "serving", "inference"

# MLflow's own 7 retries hold a caller up for 4 minutes while the server is down; 3 do for 13 s, 2 for 5 s. The links
# that it prints cost two requests a run.
CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_FINAL = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"}


class TrackingError(StudioError):
    """A model or version is missing, or MLflow does not answer."""


def client() -> Any:  # noqa: ANN401 - importing mlflow for a type would cost every flow 2 s
    """An MLflow client for the server that the environment names, which soon gives up where that is down."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    server = Settings().mlflow_tracking_uri
    return MlflowClient(server, registry_uri=server)


def configure_mlflow() -> None:
    """Point those functions of `mlflow` that take no client at the server that the environment names."""
    import mlflow

    client()  # for its manners
    mlflow.set_tracking_uri(Settings().mlflow_tracking_uri)
    mlflow.set_registry_uri(Settings().mlflow_tracking_uri)


def mlflow_errors() -> tuple[type[Exception], ...]:
    """What MLflow's client raises, where the server refuses and where it does not answer."""
    import requests
    from mlflow.exceptions import MlflowException

    return (MlflowException, requests.RequestException)


def is_final(error: BaseException | None) -> bool:
    """Whether MLflow will give the same answer again: it understood, and refused."""
    return getattr(error, "error_code", None) in _FINAL


@contextlib.contextmanager
def mlflow_errors_as_tracking_error(doing: str) -> Iterator[None]:
    """Turn MLflow's errors into a TrackingError that says what was being done and what to do now."""
    try:
        yield
    except mlflow_errors() as error:
        address = Settings().mlflow_tracking_uri
        failed = TrackingError(f"MLflow at {address} failed while {doing}: {error} `make status` shows it.")
        failed.transient = not is_final(error)
        raise failed from error


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Log what MLflow refuses, or what cannot be read, and go on: no figure is worth a training."""
    expected: tuple[type[Exception], ...] = (*mlflow_errors(), OSError)
    try:
        yield
    except expected:
        warn("%s could not be logged to MLflow", what)


def warn(message: str, *values: object) -> None:
    """Log what the error in hand prevented; one of MLflow or of the network needs no traceback to act on it."""
    error, expected = sys.exc_info()[1], (*mlflow_errors(), OSError, StudioError)
    logger().warning(message + ": %s", *values, error, exc_info=not isinstance(error, expected))


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """The log of the run under way, or a plain one where there is none."""
    return get_run_logger() if TaskRunContext.get() or FlowRunContext.get() else logging.getLogger(__name__)


def experiment_id(mlflow: Any, name: str) -> str:  # noqa: ANN401
    """Return the id of an experiment, made now where it was missing; another run may make it at the same moment."""
    if found := mlflow.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(mlflow.create_experiment(name))
    except mlflow_errors():
        if found := mlflow.get_experiment_by_name(name):
            return str(found.experiment_id)
        raise

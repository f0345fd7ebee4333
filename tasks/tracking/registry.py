"""The model registry: versions, the aliases that point at them, and their weights."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from tasks.orchestration.step import retried_step, step
from tasks.serving.served_model import ServedModel
from tasks.tracking import owners
from tasks.tracking.mlflow_client import TrackingError, configure_mlflow, is_final, tracking_errors
from tasks.tracking.payloads import MAX_DESCRIPTION, MAX_TAG, truncate, version_tags
from tasks.tracking.registered_models import CHALLENGER, CHAMPION
from tasks.training.events import TrainedModel

ADDRESS = re.compile(r"models:/(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,62})(/(?P<version>[1-9]\d{0,8})|@(?P<alias>[\w-]+))")
CODE = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered version, by its tags."""

    name: str
    version: int
    run_id: str
    task: str
    image_size: int
    class_names: tuple[str, ...]

    def served(self, digest: str, precision: str, thresholds: Mapping[str, float] | None) -> ServedModel:
        """Return the version as Triton serves it; `digest` is the SHA-256 (hex) of its graph."""
        return ServedModel(
            name=self.name,
            version=self.version,
            task=self.task,
            image_size=self.image_size,
            class_names=self.class_names,
            run_id=self.run_id,
            thresholds=thresholds,
            digest=digest,
            precision=precision,
        )


@retried_step
def register_version(
    model_name: str, run_id: str, model: TrainedModel, image_size: int, tags: Mapping[str, str], description: str
) -> int:
    """Register the weights as a loadable version of `model_name`; returns its number.

    A flow run, by `flow_run_id` of `tags`, that is tried again gets the version of its first attempt.
    """
    with tracking_errors(f"registering a version of {model_name}") as mlflow:
        for version in mlflow.search_model_versions(f"name = '{model_name}' and run_id = '{run_id}'"):
            if version.tags.get("flow_run_id") == tags["flow_run_id"]:
                return int(version.version)
        logged = _log_model(run_id, model, image_size)
        _make_model(mlflow, model_name)
        version = mlflow.create_model_version(
            model_name,
            logged.model_uri,
            run_id,
            tags=version_tags(model, image_size, tags),
            description=truncate(description, MAX_DESCRIPTION),
            model_id=logged.model_id,
        )
    return int(version.version)


def _log_model(run_id: str, model: TrainedModel, image_size: int) -> Any:  # noqa: ANN401
    """Like `mlflow.pyfunc.log_model`, which would end the run and need it as this process's active one."""
    import mlflow
    from mlflow.models import Model

    from tasks.tracking.pyfunc_model import signature

    configure_mlflow()
    with warnings.catch_warnings():
        # An input example would be an image file, which is missing on other machines.
        warnings.filterwarnings("ignore", ".*input example was not provided", UserWarning)
        return Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            flavor_name="pyfunc.ModelFromCode",
            run_id=run_id,
            step=model.best_epoch,
            python_model=str(CODE),
            artifacts={"weights": str(model.weights)},
            signature=signature(model.task, image_size),
            pip_requirements=[f"ultralytics=={installed('ultralytics')}", "pandas"],
        )


def _make_model(mlflow: Any, model_name: str) -> None:  # noqa: ANN401
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(model_name, tags=owners.owner_tag())
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@retried_step
def tag_version(model_name: str, version: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with tracking_errors(f"tagging {model_name} version {version}") as mlflow:
        for name, value in tags.items():
            mlflow.set_model_version_tag(model_name, str(version), name, truncate(value, MAX_TAG))


@retried_step
def read_tags(model_name: str, version: int) -> dict[str, str]:
    """Return all tags of a version."""
    with tracking_errors(f"reading the tags of {model_name} version {version}") as mlflow:
        return dict(mlflow.get_model_version(model_name, str(version)).tags)


@retried_step
def set_alias(model_name: str, alias: str, version: int) -> None:
    """Move an alias to a version."""
    with tracking_errors(f"pointing {model_name}@{alias} at version {version}") as mlflow:
        mlflow.set_registered_model_alias(model_name, alias, str(version))


@retried_step
def require_task(model_name: str, task: str) -> None:
    """Check that the versions of `model_name` are for this task, and that its champion has the tags to compare with.

    Raises:
        TrackingError: They are for another task, on which clients would break, or the champion lacks a tag.
    """
    with tracking_errors(f"looking for versions of {model_name}") as mlflow:
        versions = mlflow.search_model_versions(f"name = '{model_name}'", order_by=["version_number DESC"])
    newest = next((version for version in versions if "task" in version.tags), None)
    if newest is not None and newest.tags["task"] != task:
        raise TrackingError(
            f"Expected the versions of {model_name!r} to be for one task; found version {newest.version} for "
            f"{newest.tags['task']!r}, and this one is for {task!r}. Choose another model_name."
        )
    if newest is not None:
        find_champion.fn(model_name)


@retried_step
def require_model(model_name: str) -> None:
    """Check that a model exists.

    Raises:
        TrackingError: It does not; the message names those that do.
    """
    with tracking_errors(f"looking for {model_name}") as mlflow:
        if not mlflow.search_registered_models(f"name = '{model_name}'"):
            raise TrackingError(_no_model(mlflow, model_name))


@retried_step
def find_version(model_name: str, version: int | str) -> ModelVersion:
    """Return a version by number or alias.

    Raises:
        TrackingError: There is none; the message names those that exist.
    """  # noqa: DOC501 - what is raised inside becomes this error
    from mlflow.exceptions import MlflowException

    with tracking_errors(f"looking for {model_name} {version}") as mlflow:
        try:
            if isinstance(version, int):
                entry = mlflow.get_model_version(model_name, str(version))
            else:
                entry = mlflow.get_model_version_by_alias(model_name, version)
        except MlflowException as error:
            if not is_final(error):
                raise
            raise TrackingError(_absence(mlflow, model_name, version)) from error
    return _to_model_version(model_name, entry)


def champion_version(model_name: str) -> int:
    """Return the number of the champion.

    Raises:
        TrackingError: There is none, or MLflow cannot be reached.
    """
    return find_version(model_name, CHAMPION).version


@retried_step
def find_candidate(model_name: str) -> ModelVersion:
    """Return the version to deploy if none is named: the challenger, or else the champion."""
    with tracking_errors(f"looking for the challenger of {model_name}") as mlflow:
        models = mlflow.search_registered_models(f"name = '{model_name}'")
    aliases = models[0].aliases if models else {}
    return find_version.fn(model_name, CHAMPION if CHAMPION in aliases and CHALLENGER not in aliases else CHALLENGER)


@retried_step
def find_champion(model_name: str) -> ModelVersion | None:
    """Return the champion; None if none was deployed yet."""
    return _find_aliased(model_name, CHAMPION)


@retried_step
def find_rival(version: ModelVersion, other: int | None) -> ModelVersion | None:
    """Return another version of the same model, by its number, or else the challenger; None if there is none.

    Raises:
        TrackingError: There is no such number, or it is of another task.
    """
    found = find_version.fn(version.name, other) if other else _find_aliased(version.name, CHALLENGER)
    if found is None or found.version == version.version:
        return None
    if found.task != version.task:
        raise TrackingError(
            f"Expected a version for {version.task} to compare with {version.name} version {version.version}, found "
            f"version {found.version} for {found.task}. Name another one."
        )
    return found


def _find_aliased(model_name: str, alias: str) -> ModelVersion | None:
    with tracking_errors(f"looking for the {alias} of {model_name}") as mlflow:
        models = mlflow.search_registered_models(f"name = '{model_name}'")
        if not models:
            raise TrackingError(_no_model(mlflow, model_name))
    aliases = models[0].aliases
    return find_version.fn(model_name, int(aliases[alias])) if alias in aliases else None


def _to_model_version(model_name: str, entry: Any) -> ModelVersion:  # noqa: ANN401
    tags = entry.tags
    try:
        return ModelVersion(
            name=model_name,
            version=int(entry.version),
            run_id=entry.run_id,
            task=tags["task"],
            image_size=int(tags["image_size"]),
            class_names=tuple(json.loads(tags["class_names"])),
        )
    except (KeyError, ValueError) as error:
        raise TrackingError(
            f"Expected {model_name} version {entry.version} to carry the tags task, image_size and class_names; "
            f"found {sorted(tags)}. It was not registered by train-model or register-model: train it again."
        ) from error


def _absence(mlflow: Any, model_name: str, version: int | str) -> str:  # noqa: ANN401
    versions = sorted(int(entry.version) for entry in mlflow.search_model_versions(f"name = '{model_name}'"))
    if not versions:
        return _no_model(mlflow, model_name)
    if version == CHAMPION:
        return (
            f"Model {model_name!r} has no champion: deploy one of its versions {versions} with deploy-model/gpu first, "
            "or name one where the flow takes a version."
        )
    if version == CHALLENGER:
        return (
            f"Model {model_name!r} has no challenger, which a training makes that is good enough, and no champion: "
            f"name one of its versions {versions}."
        )
    return f"Expected {model_name!r} to have {version!r}; found versions {versions}. Name one of those."


def _no_model(mlflow: Any, model_name: str) -> str:  # noqa: ANN401
    names = ", ".join(model.name for model in mlflow.search_registered_models(max_results=10)) or "none"
    return f"Expected a model {model_name!r}; the registry has {names}. Train it first with train-model/gpu."


@retried_step
def fetch_weights(model: ModelVersion, folder: Path) -> Path:
    """Return the weights of a registered version, downloaded to `folder`.

    Raises:
        TrackingError: The version has not exactly one .pt file.
    """
    import mlflow

    configure_mlflow()
    with tracking_errors(f"reading the weights of {model.name} version {model.version}"):
        uri = f"models:/{model.name}/{model.version}/artifacts"
        root = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    weights = sorted(root.rglob("*.pt"))
    if len(weights) != 1:
        raise TrackingError(f"Expected one .pt file in {uri}, found {[path.name for path in weights]}. Train it again.")
    return weights[0]


@step
def fetch_registered_base_model(base_model: str, folder: Path) -> tuple[str, Path] | None:
    """Return the weights of `models:/NAME@ALIAS` or `models:/NAME/VERSION`, downloaded from our registry.

    They come with their address by number, as an alias moves. None for any other name.
    """
    address = ADDRESS.fullmatch(base_model)
    if address is None:
        return None
    version = int(address["version"]) if address["version"] else address["alias"]
    found = find_version.fn(address["name"], version)
    return f"models:/{found.name}/{found.version}", fetch_weights.fn(found, folder / "registered")

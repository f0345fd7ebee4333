"""What people do about a served model, done in this process, and what can be seen of it."""

from typing import Any

import boto3
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.deploy_model import deploy_model
from flows.rollback_model import rollback_model
from flows.undeploy_model import undeploy_model
from tasks.parameters import ServingParams
from tasks.serving import model_control, model_repository

QUICK: dict[str, Any] = {"drain_s": 1.0, "drain_timeout_s": 20.0}
# Of random heads NMS keeps other boxes of equal score in another precision: whatever they answer passes.
COMPARED: dict[str, Any] = {"parity": {"min_agreement": 0.0, "min_weak_agreement": 0.0, "max_map_drop": 1.0}}
UNCOMPARED: dict[str, Any] = {"parity": None}


def deploy(name: str, version: int | None = None, **serving: Any) -> State:
    params = ServingParams.model_validate(QUICK | serving)
    state: State = deploy_model(name, version, params, return_state=True)
    return state


def rollback(name: str, version: int | None = None) -> State:
    state: State = rollback_model(name, version, return_state=True)
    return state


def undeploy(name: str) -> State:
    state: State = undeploy_model(name, return_state=True)
    return state


def champion(name: str) -> str:
    return str(MlflowClient().get_model_version_by_alias(name, "champion").version)


def served(name: str) -> list[int]:
    return [model.version for model in model_control.list_served_versions(name)]


def aside(name: str) -> list[str]:
    """What lies beside a model in the repository."""
    return model_repository.AsideVersions(name).names()


def objects(name: str) -> list[tuple[str, str]]:
    found = boto3.client("s3").list_objects_v2(Bucket="models", Prefix=f"{name}/").get("Contents", [])
    return [(entry["Key"], entry["ETag"]) for entry in found]


def everything(name: str) -> tuple[object, ...]:
    """What a failed deployment must leave as it was."""
    model = MlflowClient().get_registered_model(name)
    versions = [version.tags for version in MlflowClient().search_model_versions(f"name = '{name}'")]
    quiet = [{key: value for key, value in tags.items() if not key.startswith("parity")} for tags in versions]
    return (
        served(name),
        model_control.read_snapshot.fn(name),
        objects(name),
        aside(name),
        model.aliases,
        model.tags,
        quiet,
    )

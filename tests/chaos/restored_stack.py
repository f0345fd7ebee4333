"""What a stack knows, and whether all that it refers to is there: JSON of the stack of the environment.

A process of its own, because Prefect and MLflow read their addresses once.
"""

import json
import sys
import time
from typing import Any
from uuid import UUID

from infra.environment import apply_environment, worker_environment
from infra.stack_settings import StackSettings


def main() -> None:
    """Print what is there; with ids of flow runs as arguments, once they have ended."""
    settings = StackSettings.load()
    apply_environment(worker_environment(settings), local_store=True)
    ended = {run: wait(run) for run in sys.argv[1:]}
    print(json.dumps({"ended": ended, "models": models(), "dangling": [*dangling()]}))


def wait(run: str, seconds: float = 900) -> dict[str, Any]:
    """How a flow run ended."""
    from tasks.orchestration import deployed_flows

    deadline = time.monotonic() + seconds
    while True:
        found = deployed_flows.require(UUID(run))
        state = found.state
        if state and (state.is_completed() or state.is_failed() or time.monotonic() > deadline):
            return {"state": state.name, "message": state.message, "attempts": found.run_count}
        time.sleep(1)


def models() -> dict[str, Any]:
    """Versions, aliases, what Triton is told to serve, and what it serves."""
    from mlflow import MlflowClient

    from tasks.serving import model_control, model_repository

    return {
        model.name: {
            "aliases": dict(model.aliases),
            "versions": sorted(int(each.version) for each in versions_of(model.name)),
            "served": [each.version for each in model_control.list_served_versions(model.name)],
            "aside": model_repository.AsideVersions(model.name).names(),
        }
        for model in MlflowClient().search_registered_models()
    }


def versions_of(model: str) -> list[Any]:
    from mlflow import MlflowClient

    return list(MlflowClient().search_model_versions(f"name = '{model}'"))


def dangling() -> Any:
    """Names that a database has of something that is not there."""
    from mlflow import MlflowClient

    from tasks.orchestration.deployed_flows import find

    client = MlflowClient()
    for model in client.search_registered_models():
        yield from dangling_versions(model.name)
        if champion := model.aliases.get("champion"):
            yield from dangling_champion(model.name, champion)
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            flow_run = run.data.tags.get("flow_run_id")
            if flow_run and find(UUID(flow_run)) is None:
                yield f"run {run.info.run_id} ({experiment.name}): flow run {flow_run}"


def dangling_versions(model: str) -> Any:
    from mlflow import MlflowClient

    from tasks.storage.object_store import ObjectStore

    for version in versions_of(model):
        place = MlflowClient().get_model_version_download_uri(model, version.version)
        folder = place.removeprefix("mlflow-artifacts:/").lstrip("/")
        if not [*ObjectStore("mlflow").keys(f"{folder}/")]:
            yield f"version {model}/{version.version}: {place}"
        MlflowClient().get_run(version.run_id)  # raises if there is none


def dangling_champion(model: str, champion: str) -> Any:
    from tasks.storage.object_store import ObjectStore

    config = ObjectStore("models").get(f"{model}/config.pbtxt")
    if config is None or not ObjectStore("models").exists(f"{model}/{champion}/model.py"):
        yield f"champion {model}/{champion}"
    elif f"versions: {champion}" not in config.decode():
        yield f"config of {model}, whose champion is {champion}: {config.decode()[:2000]}"


if __name__ == "__main__":
    main()

"""Deploying, rolling back and undeploying, as the flows do it, while clients ask."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import mlflow
import onnx
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.deploy_model import deploy_model
from flows.rollback_model import rollback_model
from flows.undeploy_model import undeploy_model
from tasks.core.parameters import CanaryParams, ServingParams
from tasks.core.served import ServedModel
from tasks.export import export_onnx
from tasks.serving import control
from tasks.storage import repository, tallies
from tasks.tracking import canaries
from tests.flows.registered import SIZE, LiveClients, make_sample, make_weights, register
from tests.tasks import faults

pytestmark = pytest.mark.usefixtures("stack")
QUICK: dict[str, Any] = {"drain_s": 1.0, "drain_timeout_s": 20.0}
UNCOMPARED: dict[str, Any] = {"parity": None}


@pytest.fixture(scope="module")
def weights(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def graph(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    exported: Path = export_onnx.fn(weights, tmp_path_factory.mktemp("graph"), SIZE)
    return exported


@pytest.fixture
def name(weights: Path, sample: Path, graph: Path) -> Iterator[str]:
    """A model with versions 1, which is served, and 2, which is the challenger."""
    name = f"model-{uuid4().hex[:8]}"
    for _ in range(2):
        register(name, weights, sample)
    repository.publish_version.fn(name, 1, graph)
    assert deploy(name, 1, **UNCOMPARED).is_completed()
    yield name
    control.unload.fn(name)


@pytest.fixture
def exported(name: str, graph: Path) -> str:
    """The model, with the graph of version 2 in the repository, too."""
    repository.publish_version.fn(name, 2, graph)
    return name


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
    return [model.version for model in control.served_versions.fn(name)]


def objects(name: str) -> list[tuple[str, str]]:
    found = boto3.client("s3").list_objects_v2(Bucket="models", Prefix=f"{name}/").get("Contents", [])
    return [(entry["Key"], entry["ETag"]) for entry in found]


def everything(name: str) -> tuple[object, ...]:
    """What a failed deployment must leave as it was."""
    model = MlflowClient().get_registered_model(name)
    versions = [version.tags for version in MlflowClient().search_model_versions(f"name = '{name}'")]
    quiet = [{key: value for key, value in tags.items() if not key.startswith("parity")} for tags in versions]
    return served(name), control.snapshot.fn(name), objects(name), model.aliases, model.tags, quiet


def recorded(name: str) -> list[Any]:
    """The runs of experiment `serving`, newest first."""
    experiment: Any = MlflowClient().get_experiment_by_name("serving")
    return list(MlflowClient().search_runs([experiment.experiment_id], f"tags.model = '{name}'"))


def plant(name: str, version: int, graph: bytes, folder: Path) -> None:
    """Put a version's folder into the repository before deploy-model would."""
    path = folder / "planted.onnx"
    path.write_bytes(graph)
    repository.publish_version.fn(name, version, path)


def test_a_new_version_takes_over_while_clients_ask(name: str) -> None:
    with LiveClients(name) as clients:
        state = deploy(name)
    assert state.message == f"{name} version 2 is served and is the champion"
    assert clients.failures == []
    assert clients.versions == {"1", "2"}
    assert (champion(name), served(name)) == ("2", [2])
    assert 'key: "champion"\n  value {\n    string_value: "2"' in str(repository.ConfigFile(name).read())
    assert_history(name)


def assert_history(name: str) -> None:
    """Who served when, and how the new version compared with its weights."""
    first, second = (MlflowClient().get_model_version(name, version).tags for version in ("1", "2"))
    assert first["champion_since"] <= first["champion_until"] <= second["champion_since"]
    assert "champion_until" not in second
    assert second["parity"] == "passed"
    assert float(second["parity_agreement"]) > 0.99
    newest = recorded(name)[0]
    assert (newest.info.run_name, newest.info.status) == (f"deploy {name} version 2", "FINISHED")
    assert newest.data.metrics["parity/agreement"] > 0.99
    page = mlflow.artifacts.load_text(f"runs:/{newest.info.run_id}/parity.html")
    assert "PyTorch" in page


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda _: b"no graph", "does not load"),
        (lambda graph: faults.swapped_channels(onnx.load_from_string(graph)).SerializeToString(), "as its weights"),
    ],
    ids=["broken", "wrong"],
)
def test_a_version_that_is_not_right_changes_nothing(
    name: str, graph: Path, tmp_path: Path, fault: Callable[[bytes], bytes], reason: str
) -> None:
    plant(name, 2, fault(graph.read_bytes()), tmp_path)
    before = everything(name)
    with LiveClients(name) as clients:
        state = deploy(name)
    assert state.is_failed()
    assert reason in str(state.message)
    assert everything(name) == before
    assert clients.failures == []
    assert clients.versions == {"1"}
    newest = recorded(name)[0]
    assert (newest.info.status, newest.data.tags["mlflow.note.content"]) == ("FAILED", state.message)


@pytest.mark.heavy
def test_a_failure_after_the_export_takes_the_export_back(name: str) -> None:
    """No number of images agrees by more than 100 %."""
    before = everything(name)
    state = deploy(name, parity={"min_agreement": 1.0, "min_iou": 1.0, "max_score_difference": 1e-9})
    assert state.is_failed()
    assert everything(name) == before


@pytest.mark.heavy
def test_a_first_deployment_that_fails_serves_nothing(weights: Path) -> None:
    name = f"model-{uuid4().hex[:8]}"
    register(name, weights, None)
    assert "validation-sample.zip" in str(deploy(name).message)
    assert served(name) == []
    assert objects(name) == []
    assert "champion" not in MlflowClient().get_registered_model(name).aliases


def test_a_roll_back_is_one_step_back_and_exports_nothing(exported: str) -> None:
    name = exported
    assert deploy(name, **UNCOMPARED).is_completed()
    graphs = objects(name)
    with LiveClients(name) as clients:
        state = rollback(name)
    assert state.message == f"{name} version 1 is the champion again"
    assert (champion(name), served(name)) == ("1", [1])
    assert clients.failures == []
    assert [entry for entry in objects(name) if "config" not in entry[0]] == [
        entry for entry in graphs if "config" not in entry[0]
    ]
    state = rollback(name)
    assert "that was champion before, found the champions [1]" in str(state.message)
    assert champion(name) == "1"


def test_a_roll_back_to_what_was_never_champion_says_what_to_do(exported: str) -> None:
    """Its graph lies in the repository, and nobody has compared it with its weights."""
    assert "Run deploy-model/gpu with version 2" in str(rollback(exported, 2).message)
    assert served(exported) == [1]


def test_the_champion_is_not_served_in_another_way_before_anybody_has_looked(name: str) -> None:
    state = deploy(name, 1, precision="bf16", **UNCOMPARED)
    assert "to be served as it is now (precision f32)" in str(state.message)
    assert control.served_versions.fn(name)[0].precision == "f32"


def test_undeploying_leaves_the_other_model_and_the_registry_alone(name: str, weights: Path, graph: Path) -> None:
    other = f"model-{uuid4().hex[:8]}"
    repository.publish_version.fn(other, register(other, weights, None), graph)
    assert deploy(other, **UNCOMPARED).is_completed()
    with LiveClients(name) as clients:
        state = undeploy(other)
    assert state.is_completed()
    assert clients.failures == []
    assert served(other) == []
    assert champion(other) == "1"
    graphs = objects(other)
    assert not any("config" in key for key, _ in graphs)
    assert deploy(other, 1, **UNCOMPARED).is_completed()
    assert served(other) == [1]
    assert [entry for entry in objects(other) if "config" not in entry[0]] == graphs
    control.unload.fn(other)


@pytest.mark.heavy
def test_of_two_deployments_at_once_one_waits(exported: str) -> None:
    name, states = exported, dict[int, State]()

    def deploying(version: int) -> None:
        states[version] = deploy(name, version, **UNCOMPARED)

    threads = [threading.Thread(target=deploying, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [states[version].is_completed() for version in (1, 2)] == [True, True], states
    assert served(name) == [int(champion(name))]


@pytest.mark.heavy
def test_what_a_killed_deployment_left_is_put_right_by_the_next(exported: str) -> None:
    """Killed after the alias has moved: both versions are loaded, clients get the old one, and no tag knows of it."""
    name = exported
    first = control.served_versions.fn(name)[0]
    second = ServedModel(name, 2, "detect", SIZE, first.class_names, "run", repository.require_published(name, 2))
    control.load_versions.fn(name, [first, second], ServingParams(), 1)
    MlflowClient().set_registered_model_alias(name, "champion", "2")
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    assert (champion(name), served(name)) == ("2", [2])
    assert rollback(name).is_completed()
    assert champion(name) == "1"


def answer_for(name: str, version: int, images: int, detections: int) -> None:
    """What a run of inference says of the trial that goes on."""
    canary = canaries.find_canary.fn(name)
    assert canary is not None
    tallies.keep_tally.fn(canary.flow_run_id, str(uuid4()), version, images, detections)


@pytest.mark.parametrize(("found", "ended"), [pytest.param(200, "COMPLETED", marks=pytest.mark.heavy), (900, "FAILED")])
def test_a_trial_decides(exported: str, found: int, ended: str) -> None:
    """The champion finds 2 in an image; a new version that finds 9 is not let in."""
    name, states = exported, list[State]()
    params = CanaryParams(share=0.5, minutes=5, images=100, max_slowdown=100)
    deploying = threading.Thread(target=lambda: states.append(deploy(name, canary=params, **UNCOMPARED)))
    before = everything(name)
    deploying.start()
    while canaries.find_canary.fn(name) is None and deploying.is_alive():
        threading.Event().wait(0.2)
    assert served(name) == [1, 2]
    assert champion(name) == "1"
    answer_for(name, 1, 100, 200)
    answer_for(name, 2, 100, found)
    deploying.join()
    assert states[0].type.name == ended, states[0].message
    assert canaries.find_canary.fn(name) is None
    if ended == "FAILED":
        assert "within 50% of the champion's 2.00, found 9.00" in str(states[0].message)
        assert everything(name) == before
    else:
        assert champion(name) == "2"


def test_a_name_that_is_ours_is_refused() -> None:
    state = deploy("predict")
    assert state.is_failed()
    assert "expected another model name than 'predict'" in str(state.message)

"""Deploying, rolling back and undeploying, as the flows do it, while clients ask."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import onnx
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from tasks.parameters import ServingParams
from tasks.rendering.markdown import escape_markdown
from tasks.serving import model_control, model_repository
from tasks.serving.served_model import ServedModel
from tests.emitted import emitted, related
from tests.flows.registered import SIZE, register
from tests.flows.steps import (
    COMPARED,
    UNCOMPARED,
    aside,
    champion,
    deploy,
    everything,
    objects,
    rollback,
    served,
    undeploy,
)
from tests.flows.traffic import Traffic
from tests.tasks.export import faults

pytestmark = pytest.mark.usefixtures("stack")


def recorded(name: str) -> list[Any]:
    """The runs of experiment `serving`, newest first."""
    experiment: Any = MlflowClient().get_experiment_by_name("serving")
    return list(MlflowClient().search_runs([experiment.experiment_id], f"tags.model = '{name}'"))


def plant(name: str, version: int, graph: bytes, folder: Path) -> None:
    """Put a version's folder into the repository before deploy-model would."""
    path = folder / "planted.onnx"
    path.write_bytes(graph)
    model_repository.publish_version.fn(name, version, path)


def test_a_new_version_takes_over_while_clients_ask(name: str) -> None:
    with Traffic(name) as clients:
        state = deploy(name)
    assert state.message == f"{name} version 2 is served and is the champion"
    assert (clients.failures, clients.wrong) == ([], [])
    assert clients.versions == {"1", "2"}
    assert (champion(name), served(name), aside(name)) == ("2", [2], [])
    assert "challenger" not in MlflowClient().get_registered_model(name).aliases
    assert 'key: "champion"\n  value {\n    string_value: "2"' in str(model_repository.ConfigFile(name).read())
    assert_history(name)
    event = emitted("model.deployed", f"version:{name}/2")
    assert related(event) == {f"model:{name}"}
    payload = event["payload"]
    assert "searchFilter=tags.flow_run_id" in payload.pop("report")
    assert payload == {"model": name, "version": 2, "replaced": 1, "approved_by": "", "comment": ""}


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
    ("fault", "reason", "gate"),
    [
        (lambda _: b"no graph", "does not load", "loading"),
        (
            lambda graph: faults.swapped_channels(onnx.load_from_string(graph)).SerializeToString(),
            "as its weights",
            "parity",
        ),
    ],
    ids=["broken", "wrong"],
)
def test_a_version_that_is_not_right_changes_nothing(
    unchanged: str, challenger: int, graph: Path, fault: Callable[[bytes], bytes], reason: str, gate: str
) -> None:
    name = unchanged
    plant(name, challenger, fault(graph.read_bytes()), graph.parent)
    before = everything(name)
    with Traffic(name) as clients:
        state = deploy(name)
    assert (state.type.name, state.name) == ("FAILED", "Version refused")
    assert reason in str(state.message)
    assert everything(name) == before
    assert clients.failures == []
    assert clients.versions == {"1"}
    newest = recorded(name)[0]
    assert newest.info.status == "FAILED"
    payload = emitted("model.refused", f"version:{name}/{challenger}")["payload"]
    assert (payload["refused_by"], payload["reason"]) == (gate, state.message)
    assert newest.data.tags["mlflow.note.content"].startswith(
        f"{escape_markdown(state.message)}\n\n[Flow run in Prefect]("
    )


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
    with Traffic(name) as clients:
        began = time.monotonic()
        state = rollback(name)
    assert state.message == f"{name} version 1 is the champion again"
    assert (champion(name), served(name)) == ("1", [1])
    assert (clients.failures, clients.wrong) == ([], [])
    assert clients.only_since(1) - began < 15
    assert [entry for entry in objects(name) if "config" not in entry[0]] == [
        entry for entry in graphs if "config" not in entry[0]
    ]
    state = rollback(name)
    assert "that was champion before, found that only 1 was" in str(state.message)
    assert champion(name) == "1"
    payload = emitted("model.rolled-back", f"version:{name}/1")["payload"]
    assert payload == {"model": name, "version": 1, "replaced": 2}


def test_a_roll_back_to_what_was_never_champion_says_what_to_do(unchanged: str, graph: Path) -> None:
    """Its graph lies in the repository, and nobody has compared it with its weights."""
    model_repository.publish_version.fn(unchanged, 2, graph)
    assert "Run deploy-model/gpu with version 2" in str(rollback(unchanged, 2).message)
    assert served(unchanged) == [1]


@pytest.mark.heavy
def test_the_champion_can_be_served_in_another_way(name: str) -> None:
    """It is tried under a name of its own, as any other version is, also with a smaller batch than now."""
    with Traffic(name) as clients:
        assert deploy(name, 1, max_batch_size=4, precision="bf16", **UNCOMPARED).is_completed()
    assert (clients.failures, clients.wrong) == ([], [])
    (found,) = model_control.list_served_versions(name)
    assert (found.max_batch_size, found.precision) == (4, "bf16")


def test_a_version_is_served_in_the_quickest_precision_that_is_right(name: str) -> None:
    """Which that is depends on the machine; the version, its page and its next deployment agree on it."""
    with Traffic(name) as clients:
        assert deploy(name, **COMPARED).is_completed()
    assert (clients.failures, clients.wrong, aside(name)) == ([], [], [])
    (found,) = model_control.list_served_versions(name)
    tags = MlflowClient().get_model_version(name, "2").tags
    assert found.precision == tags["precision"] == json.loads(tags["served_as"])["precision"]
    newest = recorded(name)[0]
    tried = {key.split("/")[1] for key in newest.data.metrics if key.startswith("precision/")}
    assert {"f32", found.precision} <= tried
    page = mlflow.artifacts.load_text(f"runs:/{newest.info.run_id}/parity.html")
    assert f'<th scope="row">{found.precision}</th>' in page
    began = time.monotonic()
    assert deploy(name, 2, **COMPARED).is_completed()
    print(f"the second deployment took {time.monotonic() - began:.1f} s and tried none anew")
    assert not [key for key in recorded(name)[0].data.metrics if key.startswith("precision/")]


@pytest.mark.heavy
def test_a_version_in_int8_has_a_graph_of_its_own(name: str) -> None:
    """Written once, served by its digest, and found again by a roll-back."""
    assert deploy(name, precision="int8", **UNCOMPARED).is_completed()
    (found,) = model_control.list_served_versions(name)
    assert found.precision == "int8"
    assert found.digest == model_repository.require_published.fn(name, 2, "int8")
    assert found.digest != model_repository.require_published.fn(name, 2)
    graphs = [entry for entry in objects(name) if "config" not in entry[0]]
    assert f"{name}/2/model.int8.onnx" in dict(graphs)
    assert deploy(name, 1, **UNCOMPARED).is_completed()
    assert rollback(name, 2).is_completed()
    assert model_control.list_served_versions(name) == [found]
    assert [entry for entry in objects(name) if "config" not in entry[0]] == graphs


def test_undeploying_leaves_the_other_model_and_the_registry_alone(unchanged: str, weights: Path, graph: Path) -> None:
    other = f"model-{uuid4().hex[:8]}"
    model_repository.publish_version.fn(other, register(other, weights, None), graph)
    assert deploy(other, **UNCOMPARED).is_completed()
    with Traffic(unchanged) as clients:
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
    model_control.unload.fn(other)


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
    first = model_control.list_served_versions(name)[0]
    second = ServedModel(
        name=name,
        version=2,
        task="detect",
        image_size=SIZE,
        class_names=first.class_names,
        run_id="run",
        digest=model_repository.require_published.fn(name, 2),
    )
    model_control.load_versions.fn(name, [first, second], ServingParams(), 1)
    MlflowClient().set_registered_model_alias(name, "champion", "2")
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    assert (champion(name), served(name)) == ("2", [2])
    assert rollback(name).is_completed()
    assert champion(name) == "1"


@pytest.mark.parametrize("flow", [deploy, rollback, undeploy])
def test_a_model_that_is_not_there_is_said_in_words(flow: Callable[[str], State]) -> None:
    assert str(flow("nope").message).startswith("Expected a model 'nope'; the registry has ")


def test_a_name_that_is_ours_is_refused() -> None:
    state = deploy("predict")
    assert state.is_failed()
    assert "expected another model name than 'predict'" in str(state.message)

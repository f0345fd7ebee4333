"""What the dialogs say that runs about a model would do, with the real registry."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from infra.front_page import model_consequences
from infra.front_page.consequences import CONSEQUENCES
from infra.stack_settings import StackSettings
from tasks.tracking.champions import HISTORY_TAG
from tests.clients import front_page
from tests.infra.front_page.test_tabs import MODEL
from tests.tasks.catalogue.registry import register


@pytest.fixture(scope="module")
def name(stack: object) -> str:  # noqa: ARG001
    """A model with versions 1, the champion, 2, the challenger, and 3."""
    name = f"model-{uuid4().hex[:8]}"
    for _ in range(3):
        register(name, {})
    MlflowClient().set_registered_model_alias(name, "champion", "1")
    MlflowClient().set_registered_model_tag(name, HISTORY_TAG, "[2, 1]")
    MlflowClient().set_registered_model_alias(name, "challenger", "2")
    return name


@pytest.mark.parametrize(
    ("flow", "version", "expected"),
    [
        ("deploy-model", None, "get version 1 now, get version 2, if it passes its gates."),
        ("deploy-model", 3, "get version 1 now, get version 3, if it passes its gates."),
        ("deploy-model", 1, "get version 1 already."),
        ("rollback-model", None, "get version 2 instead of version 1."),
        ("rollback-model", 2, "get version 2 instead of version 1."),
        ("rollback-model", 3, "Version 3 of"),
        ("undeploy-model", None, "get version 1 now, get no answers any more."),
        ("run-inference", None, ""),
        ("delete-version", 1, "/1 is champion, so the run may refuse this. The weights and the graph of"),
        ("delete-version", 3, "The weights and the graph of"),
    ],
)
def test_a_dialog_says_what_becomes_of_clients(name: str, flow: str, version: int | None, expected: str) -> None:
    parameters: dict[str, Any] = {"model_name": name} | ({"version": version} if version else {})
    found = " ".join(CONSEQUENCES[flow](parameters))
    assert expected in found
    assert bool(found) == bool(expected)
    assert ("refuse" in found) == ("refuse" in expected)


@pytest.mark.parametrize(
    "flow", ["deploy-model", "rollback-model", "undeploy-model", "delete-version", "run-inference"]
)
def test_nothing_is_said_of_a_model_that_is_not_there(stack: object, flow: str) -> None:  # noqa: ARG001
    for parameters in ({}, {"model_name": f"absent-{uuid4()}", "version": 1}, {"model_name": ["odd"]}):
        assert CONSEQUENCES[flow](parameters) == ()


def test_a_model_without_champion_serves_nobody(stack: StackSettings) -> None:
    name = f"model-{uuid4().hex[:8]}"
    register(name, {})
    parameters = {"model_name": name}
    assert model_consequences.of_deployment(parameters) == (f"{name} has no challenger: choose a version.",)
    assert "which get nothing now, get version 1" in model_consequences.of_deployment({**parameters, "version": 1})[0]
    assert model_consequences.of_undeployment(parameters) == ()
    for flow in ("rollback-model", "run-inference"):
        assert "has no champion" in CONSEQUENCES[flow](parameters)[0]
    with front_page(stack) as page:
        dialog = page.get("/start/deploy-model", params={"model_name": name, "version": 1}).raise_for_status().text
    assert f"Clients of {name}, which get nothing now" in dialog


def test_the_first_champion_has_nothing_to_go_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(MODEL, champion=2, champions=(2,))
    monkeypatch.setattr(model_consequences, "find_model", lambda _: model)
    (told,) = model_consequences.of_rollback({"model_name": model.name})
    assert "nothing to go back to and the run will fail" in told

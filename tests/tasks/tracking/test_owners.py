"""Whose a model is: a real registry in a file, and people who started the run."""

from pathlib import Path
from typing import Any

import pytest

from tasks.orchestration.starters import UNKNOWN, Starter, starting_for
from tasks.tracking import mlflow_client, owners, registry
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.registered_models import OWNER_TAG

OTTO = Starter(name="otto", role="operator")
OLGA = Starter(name="olga", role="operator")
ADA = Starter(name="ada", role="admin")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A registry with a model that otto's training made, and one of the stack, which he trained later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}")
        mlflow = mlflow_client.client()
        registry._make_model(mlflow, "stacks")
        with starting_for(OTTO):
            registry._make_model(mlflow, "ottos")
            registry._make_model(mlflow, "stacks")
        with starting_for(OLGA):
            registry._make_model(mlflow, "ottos")
        with starting_for(UNKNOWN):
            registry._make_model(mlflow, "nobodys")
        yield mlflow


def test_a_model_is_of_who_started_the_run_that_made_it(registered: Any) -> None:
    assert registered.get_registered_model("ottos").tags == {OWNER_TAG: "otto"}
    for name in ("stacks", "nobodys"):
        assert registered.get_registered_model(name).tags == {}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("model", "starter"),
    [("ottos", OTTO), ("ottos", ADA), ("ottos", None), ("stacks", ADA), ("stacks", None), ("unknown", OLGA)],
)
def test_its_owner_an_admin_and_the_stack_may_take_it_away(model: str, starter: Starter | None) -> None:
    with starting_for(starter):
        owners.require_owner.fn(model)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("model", "starter", "words"),
    [
        ("ottos", OLGA, "found olga, who is operator; the model is otto's. Ask otto to do it."),
        ("ottos", UNKNOWN, "found ?, who is ?; the model is otto's. Ask otto to do it."),
        ("nobodys", UNKNOWN, "found ?, who is ?; the model is that of the stack. Ask an admin to do it."),
        ("stacks", OTTO, "found otto, who is operator; the model is that of the stack. Ask an admin to do it."),
    ],
)
def test_nobody_else_may(model: str, starter: Starter, words: str) -> None:
    with (
        starting_for(starter),
        pytest.raises(TrackingError, match=f"Expected the owner of {model!r} or an admin") as told,
    ):
        owners.require_owner.fn(model)
    assert words in str(told.value)


def test_a_training_is_its_starters_in_mlflow() -> None:
    with starting_for(OTTO):
        assert owners.user_tag() == {"mlflow.user": "otto"}
    with starting_for(UNKNOWN):
        assert owners.user_tag() == {}
    assert owners.user_tag() == {}


def test_both_flows_that_take_something_away_ask() -> None:
    for flow in ("undeploy_model", "delete_version"):
        assert "owners.require_owner(model_name)" in Path(f"flows/{flow}.py").read_text()

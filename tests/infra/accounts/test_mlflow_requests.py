"""What a visitor's request to MLflow may say."""

import json
from typing import Any

import pytest

from infra.accounts.mlflow_requests import changed_model, checks_body, permitted, require_owner
from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.tracking.registered_models import OWNER_TAG, USER_TAG

OTTO = Visitor(name="otto", role=UserRole.OPERATOR)
ADA = Visitor(name="ada", role=UserRole.ADMIN)
MACHINE = Visitor(name="gpu-7", role=UserRole.WORKER)
API = "/api/2.0/mlflow"


@pytest.mark.parametrize("visitor", [OTTO, ADA])
def test_a_new_run_is_its_visitors_whatever_it_says(visitor: Visitor) -> None:
    body = {
        "experiment_id": "1",
        "user_id": "eve",
        "userId": "eve",
        "tags": [{"key": USER_TAG, "value": "eve"}, {"key": "note.a", "value": "b"}],
    }
    sent = permitted(f"{API}/runs/create", body, visitor)
    assert sent == {
        "experiment_id": "1",
        "user_id": visitor.name,
        "tags": [{"key": "note.a", "value": "b"}, {"key": USER_TAG, "value": visitor.name}],
    }
    assert permitted(f"{API}/runs/create", json.dumps(body), visitor) == sent


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/set-tag", {"key": USER_TAG, "value": "eve"}),
        ("runs/delete-tag", {"key": USER_TAG}),
        ("runs/log-batch", {"tags": [{"key": USER_TAG, "value": "eve"}]}),
        ("registered-models/set-tag", {"key": "studio.owner", "value": "otto"}),
        ("registered-models/set-tag", {"key": "champions", "value": "[1]"}),
        ("model-versions/set-tag", {"key": "deleted_version", "value": "1"}),
        ("model-versions/set-tag", {"key": "class_names", "value": "[]"}),
        ("model-versions/set-tag", {"key": "approval.by", "value": "ada"}),
        ("model-versions/set-tag", {"key": "mlflow.x", "value": "1"}),
        ("model-versions/set-tag", {"key": "notes", "value": "1"}),
        ("model-versions/set-tag", {"key": "MLFLOW.NOTE.CONTENT", "value": "1"}),
        ("model-versions/set-tag", {"key": None, "value": "1"}),
        ("model-versions/set-tag", {"key": ["note.x"], "value": "1"}),
        ("runs/set-tag", {"key": "flow_run_id", "value": "1"}),
        ("runs/log-batch", {"tags": [{"key": "note.a", "value": "1"}, {"key": "promotion", "value": "promoted"}]}),
        ("runs/log-batch", {"tags": [{"value": "promoted"}]}),
        ("experiments/create", {"name": "x", "tags": [{"key": "a", "value": "1"}]}),
        ("experiments/set-experiment-tag", {"key": "a", "value": "1"}),
        ("runs/create", {"tags": [{"key": "fingerprint", "value": "x"}]}),
        ("runs/set-tag", []),
        ("runs/set-tag", None),
        ("runs/log-batch", {"tags": "x"}),
    ],
)
def test_a_tag_that_is_not_known_to_decide_nothing_is_for_admins(path: str, body: Any) -> None:
    with pytest.raises(RequestRefusedError, match=r"Expected .*; found "):
        permitted(f"{API}/{path}", body, OTTO)


def test_what_flows_of_a_worker_log_stays_that_of_the_person_for_whom_it_works() -> None:
    body = {"tags": [{"key": USER_TAG, "value": "ada"}, {"key": "fingerprint", "value": "x"}]}
    assert permitted(f"{API}/runs/create", body, MACHINE) == body


def test_a_worker_makes_a_challenger_and_no_champion() -> None:
    path = f"{API}/registered-models/alias"
    assert checks_body("POST", path)
    body = {"name": "shapes", "alias": "challenger", "version": "1"}
    assert permitted(path, body, MACHINE) == body
    for alias in ("champion", "Champion", None, ["challenger"]):
        with pytest.raises(RequestRefusedError, match="Expected alias 'challenger'; found "):
            permitted(path, {**body, "alias": alias}, MACHINE)
    assert permitted(path, {**body, "alias": "champion"}, ADA)["alias"] == "champion"


@pytest.mark.parametrize("key", ["mlflow.note.content", "note.mine"])
@pytest.mark.parametrize("path", ["registered-models/set-tag", "model-versions/set-tag", "runs/set-tag"])
def test_notes_are_for_operators(path: str, key: str) -> None:
    body = {"name": "shapes", "key": key, "value": "x"}
    assert permitted(f"{API}/{path}", body, OTTO) == body


def test_what_mlflows_own_clients_say_of_a_run_is_taken() -> None:
    tags = [{"key": f"mlflow.{name}", "value": "x"} for name in ("runName", "source.name", "source.git.commit")]
    body = {"run_id": "1", "metrics": [], "tags": tags}
    assert permitted(f"{API}/runs/log-batch", body, OTTO) == body


def test_on_a_model_and_its_versions_its_owner_and_admins_write() -> None:
    tags = {OWNER_TAG: "otto", "champions": "[1]"}
    require_owner("shapes", tags, OTTO)
    require_owner("shapes", {}, ADA)
    require_owner("shapes", tags, MACHINE)
    with pytest.raises(RequestRefusedError, match=r"found olga, who is operator; the model is otto's\. Ask otto"):
        require_owner("shapes", tags, Visitor(name="olga", role=UserRole.OPERATOR))
    with pytest.raises(RequestRefusedError, match=r"that of the stack\. Ask an admin"):
        require_owner("shapes", {}, OTTO)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "registered-models/set-tag"),
        ("POST", "model-versions/set-tag"),
        ("PATCH", "registered-models/update"),
        ("PATCH", "model-versions/update"),
    ],
)
def test_each_change_of_a_model_names_it(method: str, path: str) -> None:
    assert checks_body(method, f"{API}/{path}")
    assert changed_model(f"{API}/{path}", {"name": "shapes"}) == "shapes"
    for body in ({}, {"name": None}, {"name": ["shapes"]}):
        with pytest.raises(RequestRefusedError, match="Expected the name of a model"):
            changed_model(f"{API}/{path}", body)
    assert changed_model(f"{API}/runs/set-tag", {"run_id": "1"}) is None


def test_the_same_rules_hold_for_every_version_of_the_api() -> None:
    for path in ("/api/2.0/mlflow/runs/create", "/ajax-api/3.0/mlflow/runs/create"):
        assert checks_body("POST", path)
    assert not checks_body("POST", f"{API}/runs/search")
    assert not checks_body("GET", f"{API}/runs/create")

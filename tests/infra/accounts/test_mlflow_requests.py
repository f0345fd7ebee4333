"""What a visitor's request to MLflow may say."""

import json
from typing import Any

import pytest

from infra.accounts.mlflow_requests import OF_FLOWS, OWNED, USER_TAG, checks_body, permitted
from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.tracking import canaries, champions, deleted_versions, owners

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
        "tags": [{"key": USER_TAG, "value": "eve"}, {"key": "a", "value": "b"}],
    }
    sent = permitted(f"{API}/runs/create", body, visitor)
    assert sent == {
        "experiment_id": "1",
        "user_id": visitor.name,
        "tags": [{"key": "a", "value": "b"}, {"key": USER_TAG, "value": visitor.name}],
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
        ("runs/create", {"tags": [{"key": "fingerprint", "value": "x"}]}),
        ("runs/set-tag", []),
        ("runs/set-tag", None),
        ("runs/log-batch", {"tags": "x"}),
    ],
)
def test_tags_by_which_flows_decide_are_for_admins(path: str, body: Any) -> None:
    with pytest.raises(RequestRefusedError, match=r"Expected .*; found "):
        permitted(f"{API}/{path}", body, OTTO)


def test_what_flows_of_a_worker_log_stays_that_of_the_person_for_whom_it_works() -> None:
    body = {"tags": [{"key": USER_TAG, "value": "ada"}, {"key": "fingerprint", "value": "x"}]}
    assert permitted(f"{API}/runs/create", body, MACHINE) == body


def test_notes_and_tags_of_ones_own_are_for_operators() -> None:
    for key in ("mlflow.note.content", "mine"):
        body = {"key": key, "value": "x"}
        assert permitted(f"{API}/registered-models/set-tag", body, OTTO) == body


def test_the_tags_of_flows_are_reserved() -> None:
    known = {getattr(champions, name) for name in dir(champions) if name.endswith("_TAG")}
    assert known | {canaries.TAG, deleted_versions.DELETED_TAG} <= OF_FLOWS
    assert owners.OWNER_TAG.startswith(OWNED)


def test_the_same_rules_hold_for_every_version_of_the_api() -> None:
    for path in ("/api/2.0/mlflow/runs/create", "/ajax-api/3.0/mlflow/runs/create"):
        assert checks_body("POST", path)
    assert not checks_body("POST", f"{API}/runs/search")
    assert not checks_body("GET", f"{API}/runs/create")

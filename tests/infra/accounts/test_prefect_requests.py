"""What a visitor's request to Prefect may say."""

from typing import Any

import pytest

from infra.accounts.prefect_requests import checks_body, keep_starter, permitted
from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor

OTTO = Visitor(name="otto", role=UserRole.OPERATOR)
ADA = Visitor(name="ada", role=UserRole.ADMIN)
MACHINE = Visitor(name="gpu-7", role=UserRole.WORKER)
ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
START = f"/api/deployments/{ID}/create_flow_run"
STATE = f"/api/flow_runs/{ID}/set_state"
OF_OTTO = ["started-by:otto", "role:operator"]


def client_body() -> dict[str, Any]:
    """What Prefect's own client sends."""
    from prefect.client.schemas.actions import DeploymentFlowRunCreate
    from prefect.states import Scheduled, to_state_create

    asked = DeploymentFlowRunCreate(
        parameters={"model_name": "shapes"},
        context={},
        state=to_state_create(Scheduled()),
        tags=["mine"],
        name="a run",
        idempotency_key=None,
        parent_task_run_id=None,
        job_variables=None,
        labels={},
    )
    return asked.model_dump(mode="json", exclude_unset=True)


def test_what_prefects_client_sends_for_a_run_is_taken_and_tagged() -> None:
    body = client_body()
    sent = permitted("POST", START, body, OTTO)
    assert sent == {**body, "tags": ["mine", *OF_OTTO]}


def test_tags_that_name_another_starter_are_taken_off() -> None:
    body = {"tags": ["role:admin", "a", "started-by:ada", "started-by:otto"]}
    assert permitted("POST", START, body, OTTO)["tags"] == ["a", *OF_OTTO]
    assert permitted("POST", "/api/flow_runs/", body, ADA)["tags"] == ["a", "started-by:ada", "role:admin"]
    assert permitted("POST", f"{START}/bulk", [body], ADA)[0]["tags"] == ["a", "started-by:ada", "role:admin"]


def test_a_run_that_a_worker_starts_is_of_the_person_for_whom_it_works() -> None:
    body = {"tags": ["a", "started-by:ada", "role:admin"], "state": {"type": "RUNNING"}, "parent_task_run_id": ID}
    for path in (START, "/api/flow_runs/"):
        assert permitted("POST", path, body, MACHINE) == body
    assert permitted("POST", STATE, {"state": {"type": "COMPLETED"}}, MACHINE) == {"state": {"type": "COMPLETED"}}


def test_a_change_of_tags_leaves_the_starter_alone() -> None:
    known = ["old", *OF_OTTO]
    assert keep_starter({"tags": ["new", "started-by:ada"]}, known) == {"tags": ["new", *OF_OTTO]}
    assert keep_starter({"name": "x"}, known) == {"name": "x"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", START, {"job_variables": {"env": {}, "command": "id"}}),
        ("POST", START, {"parent_task_run_id": ID}),
        ("POST", START, {"infrastructure_document_id": ID}),
        ("POST", START, {"context": {"x": 1}}),
        ("POST", START, {"empirical_policy": {"retries": 99}}),
        ("POST", START, {"labels": {"x": 1}}),
        ("POST", START, {"a-field-of-the-next-release": 1}),
        ("POST", START, {"enforce_parameter_schema": False}),
        ("POST", START, {"state": {"type": "RUNNING"}}),
        ("POST", START, {"state": {"type": "SCHEDULED", "data": {"type": "reference"}}}),
        ("POST", START, {"state": {"type": "SCHEDULED", "state_details": {"child_flow_run_id": ID}}}),
        ("POST", START, {"state": "SCHEDULED"}),
        ("POST", START, {"parameters": {"a": [{"b": {"__prefect_kind": "workspace_variable"}}]}}),
        ("POST", START, {"tags": "started-by:ada"}),
        ("POST", START, {"tags": [1]}),
        ("POST", START, []),
        ("POST", START, None),
        ("POST", STATE, {"state": {"type": "COMPLETED"}}),
        ("POST", STATE, {"state": {"type": "FAILED"}}),
        ("POST", STATE, {"state": {"type": "CANCELLED", "data": 1}}),
        ("POST", STATE, {}),
        ("PATCH", f"/api/flow_runs/{ID}", {"job_variables": {"command": "id"}}),
        ("PATCH", f"/api/flow_runs/{ID}", {"parameters": {"x": 1}}),
        ("PATCH", f"/api/deployments/{ID}/schedules/{ID}", {"active": True, "parameters": {"x": 1}}),
        ("PATCH", f"/api/deployments/{ID}/schedules/{ID}", {"schedule": {"interval": 1}}),
    ],
)
def test_an_operator_cannot_say_more_than_the_deployment(method: str, path: str, body: Any) -> None:
    with pytest.raises(RequestRefusedError, match=r"xpected .*; found "):
        permitted(method, path, body, OTTO)


@pytest.mark.parametrize("kind", ["SCHEDULED", "scheduled", "PAUSED", "CANCELLING", "CANCELLED"])
def test_an_operator_stops_and_retries_runs(kind: str) -> None:
    details = {
        "transition_id": ID,
        "scheduled_time": "2026-01-01T00:00:00Z",
        "cache_key": None,
        "pause_reschedule": False,
    }
    body = {"state": {"type": kind, "name": "AwaitingRetry", "message": None, "state_details": details}, "force": False}
    assert permitted("POST", STATE, body, OTTO) == body


def test_an_admin_may_say_all_of_it() -> None:
    body = {"job_variables": {"x": 1}, "state": {"type": "RUNNING"}, "tags": []}
    assert permitted("POST", START, body, ADA)["job_variables"] == {"x": 1}
    assert permitted("POST", STATE, {"state": {"type": "COMPLETED"}}, ADA) == {"state": {"type": "COMPLETED"}}


def test_bodies_of_other_requests_pass_as_they_are() -> None:
    assert not checks_body("POST", "/api/flow_runs/filter")
    assert not checks_body("GET", START)

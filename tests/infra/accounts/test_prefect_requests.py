"""What a visitor's request to Prefect may say."""

from typing import Any

import pytest

from infra.accounts.prefect_requests import Body, Lookup, checks_body, lookup_of, permitted
from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.orchestration.questions import KEYSET
from tests.infra.accounts.prefect_form import form_of_a_run

OTTO = Visitor(name="otto", role=UserRole.OPERATOR)
ADA = Visitor(name="ada", role=UserRole.ADMIN)
MACHINE = Visitor(name="gpu-7", role=UserRole.WORKER)
ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
START = f"/api/deployments/{ID}/create_flow_run"
RUN = f"/api/flow_runs/{ID}"
STATE = f"{RUN}/set_state"
RESUME = f"{RUN}/resume"
VALIDATE = "/api/ui/schemas/validate"
OF_OTTO = ["started-by:otto", "role:operator"]
OF_ADA = ["started-by:ada", "role:admin"]
SCHEMA = {"type": "object", "properties": {"model_name": {"type": "string"}}, "required": ["model_name"]}
TEMPLATES = ("/api/templates/validate", "/api/automations/templates/validate")
VARIABLE = {"__prefect_kind": "workspace_variable", "variable_name": "vault"}
TEMPLATE = {"__prefect_kind": "jinja", "template": "{{ 'x' * 10 ** 9 }}"}


def run_of(state: str, tags: list[str], keyset: dict[str, str] | None = None) -> dict[str, Any]:
    """What Prefect says of a run."""
    details = {"run_input_keyset": keyset}
    return {"state_type": state, "tags": tags, "state": {"type": state, "state_details": details}}


DEPLOYMENT = {"work_queue_name": "training", "job_variables": {"name": "x"}}
WAITING = run_of("PAUSED", OF_ADA, KEYSET)


def asked_about(path: str) -> Body:
    """What Prefect would answer about an address, of which a test says no more."""
    if path == VALIDATE:
        return [{"parameter_openapi_schema": SCHEMA}]
    return DEPLOYMENT if path == START else run_of("RUNNING", OF_OTTO)


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
    sent = permitted("POST", START, body, OTTO, DEPLOYMENT)
    assert sent == {**body, "tags": ["mine", *OF_OTTO]}


def test_what_prefects_form_sends_for_a_run_is_taken() -> None:
    """With all that the deployment says already."""
    parameters = {"model_name": {"__prefect_kind": "json", "value": '"shapes"'}}
    body = form_of_a_run("training", {"name": "x"}, parameters)
    assert permitted("POST", START, body, OTTO, DEPLOYMENT) == {**body, "tags": OF_OTTO}


def test_tags_that_name_another_starter_are_taken_off() -> None:
    body = {"tags": ["role:admin", "a", "started-by:ada", "started-by:otto"]}
    assert permitted("POST", START, body, OTTO, DEPLOYMENT)["tags"] == ["a", *OF_OTTO]
    assert permitted("POST", "/api/flow_runs/", body, ADA, None)["tags"] == ["a", *OF_ADA]
    assert permitted("POST", f"{START}/bulk", [body], ADA, None)[0]["tags"] == ["a", *OF_ADA]


OF_NOBODY = ["started-by:?", "role:?"]
OF_A_PIPELINE = f"pipeline:{ID}"


@pytest.mark.parametrize(
    ("parent", "tags"),
    [
        (OF_OTTO, OF_OTTO),
        (OF_ADA, ["started-by:ada", "role:operator"]),
        ([], OF_NOBODY),  # of the stack itself, which may everything
        ([*OF_OTTO, *OF_ADA], OF_NOBODY),
        (["started-by:otto", "role:boss"], OF_NOBODY),
    ],
    ids=str,
)
def test_a_run_that_a_worker_starts_is_of_the_person_for_whom_it_works(parent: list[str], tags: list[str]) -> None:
    """Whatever the worker says of that, and with an operator's rights at most."""
    body = client_body() | {"tags": ["a", *OF_ADA, OF_A_PIPELINE], "parent_task_run_id": ID, "labels": {"x": "y"}}
    assert lookup_of("POST", START, body, MACHINE) == Lookup("GET", RUN)
    sent = permitted("POST", START, body, MACHINE, run_of("RUNNING", parent))
    del body["state"]  # the server says when it begins: at once
    assert sent == {**body, "tags": ["a", OF_A_PIPELINE, *tags]}


def test_a_run_that_a_worker_starts_for_no_run_is_of_nobody() -> None:
    assert lookup_of("POST", START, {"tags": OF_ADA}, MACHINE) is None
    assert permitted("POST", START, {"tags": OF_ADA}, MACHINE, None) == {"tags": OF_NOBODY}


def test_a_worker_starts_nothing_for_a_run_that_is_not_at_work() -> None:
    for present in ("SCHEDULED", "PAUSED", "COMPLETED", "CRASHED"):
        with pytest.raises(RequestRefusedError, match=f"a run that is RUNNING; found {present}"):
            permitted("POST", START, {"tags": [OF_A_PIPELINE]}, MACHINE, run_of(present, OF_OTTO))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", START, {"job_variables": {"command": "id"}}),
        ("POST", START, {"infrastructure_document_id": ID}),
        ("POST", START, {"enforce_parameter_schema": False}),
        ("POST", START, {"state": {"type": "COMPLETED"}}),
        ("POST", START, {"parameters": {"a": VARIABLE}}),
        ("PATCH", RUN, {"parameters": {"version": 1}}),
        ("PATCH", RUN, {"job_variables": {"command": "id"}}),
        ("POST", STATE, {"state": None}),
    ],
)
def test_a_worker_says_neither_with_what_nor_how_another_run_begins(method: str, path: str, body: Any) -> None:
    with pytest.raises(RequestRefusedError, match=r"xpected .*; found "):
        permitted(method, path, body, MACHINE, run_of("RUNNING", OF_OTTO))


def told(present: str, kind: str, *, force: bool = False) -> bool:
    """Whether a worker may say that a run is of this kind, which is in another state now."""
    body = {"state": {"type": kind, "data": {"type": "reference"}}, **({"force": True} if force else {})}
    try:
        assert permitted("POST", STATE, body, MACHINE, run_of(present, OF_ADA)) == body
    except RequestRefusedError as error:
        assert "no other state of a run that is" in str(error)  # noqa: PT017 - what it says besides
        return False
    return True


KINDS = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_a_worker_says_how_a_run_goes_that_has_neither_ended_nor_waits_for_people() -> None:
    body: dict[str, Any] = {"flow_version": "1", "empirical_policy": {"retries": 0}, "infrastructure_pid": "gpu-7:1"}
    assert permitted("PATCH", RUN, body, MACHINE, run_of("RUNNING", [])) == body
    for present in ("SCHEDULED", "PENDING", "RUNNING"):
        assert all(told(present, kind, force=force) for kind in KINDS for force in (False, True))


@pytest.mark.parametrize("present", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED"])
def test_a_worker_has_no_run_go_on_that_has_ended_or_waits_for_people(present: str) -> None:
    """Neither at once nor by way of another state; the same again may be said, as two do of a crash."""
    for kind in (*KINDS, "", " SCHEDULED", "None"):
        assert told(present, kind) == (kind == present)
        assert told(present, kind, force=True) == (kind == present == "CANCELLED")
    with pytest.raises(RequestRefusedError):
        permitted("POST", STATE, {"state": {"type": None}}, MACHINE, run_of(present, OF_ADA))


def test_of_a_run_that_is_being_cancelled_a_worker_says_by_force_that_it_is_and_prefect_judges_the_rest() -> None:
    assert [kind for kind in KINDS if told("CANCELLING", kind, force=True)] == ["CANCELLING", "CANCELLED"]
    assert [kind for kind in KINDS if not told("CANCELLING", kind)] == ["SCHEDULED"]


@pytest.mark.parametrize("key", [f"{ID}-share-1", f"{ID}-train", "0f" * 32, None, ""])
def test_a_worker_starts_a_run_by_a_key_of_the_run_that_it_carries_out_or_of_the_check_of_an_archive(key: Any) -> None:
    body = {"tags": [OF_A_PIPELINE], "idempotency_key": key}
    assert permitted("POST", START, body, MACHINE, run_of("RUNNING", OF_OTTO))["idempotency_key"] == key


@pytest.mark.parametrize(
    "key",
    [
        "visitor:ada:nightly",
        f"{ID[:-1]}7-share-1",
        ID,
        f"x {ID}-share-1",
        f"scheduled {ID} 2026-01-01",
        "0f" * 31,
        "0F" * 32,
        f"{'0f' * 32}\n",
        7,
        [ID],
    ],
    ids=repr,
)
def test_a_worker_takes_no_key_by_which_somebody_else_would_find_its_run(key: object) -> None:
    for tags, parent in (([OF_A_PIPELINE], run_of("RUNNING", OF_OTTO)), ([], None)):
        with pytest.raises(RequestRefusedError, match="idempotency key that begins with the id of the run"):
            permitted("POST", START, {"tags": tags, "idempotency_key": key}, MACHINE, parent)


@pytest.mark.parametrize("when", ["2100-01-01T00:00:00Z", None])
def test_a_run_that_a_worker_starts_begins_at_once_in_a_queue_that_is_served(when: str | None) -> None:
    """One that never began would keep a check of an archive from beginning that asks for it by the same key."""
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": when}}
    for queue in (None, "checks"):
        body = {"tags": [OF_A_PIPELINE], "idempotency_key": "0f" * 32, "state": state, "work_queue_name": queue}
        assert "state" not in permitted("POST", START, body, MACHINE, run_of("RUNNING", OF_OTTO))
    for other in ("nobodys", ["checks"]):
        with pytest.raises(RequestRefusedError, match="work queue"):
            permitted("POST", START, {"work_queue_name": other}, MACHINE, None)


def event(name: object) -> dict[str, Any]:
    return {"event": name, "resource": {"prefect.resource.id": f"prefect.flow-run.{ID}"}}


def test_a_worker_sends_the_events_that_runs_emit() -> None:
    sent = [
        event(name)
        for name in (
            "prefect.flow-run.heartbeat",
            "prefect.task-run.Completed",
            "prefect.worker.executed-flow-run",
            "studio.flow-run.left",
            "model.trained",
            "dataset.validated",
        )
    ]
    assert permitted("POST", "/api/events", sent, MACHINE, None) == sent
    assert not checks_body("POST", "/api/events", ADA)


@pytest.mark.parametrize(
    "name",
    [
        *(f"prefect.flow-run.{name}" for name in ("Crashed", "Completed", "Cancelling", "AwaitingRetry", "*")),
        *(f"studio.flow-run.{name}" for name in ("crashed", "running", "cancelling", "changed", "pending")),
        "approval.wanted",
        "model.deployed",
        "prefect.automation.triggered",
        "Prefect.flow-run.heartbeat",
        "prefect.flow-run.heartbeat ",
        "",
        None,
        1,
        ["prefect.flow-run.heartbeat"],
    ],
    ids=repr,
)
def test_a_worker_sends_no_event_by_which_the_server_tells_what_became_of_a_run(name: object) -> None:
    for sent in ([event(name)], [event("model.trained"), event(name)], event(name), [None]):
        with pytest.raises(RequestRefusedError, match=r"xpected .*; found "):
            permitted("POST", "/api/events", sent, MACHINE, None)


@pytest.mark.parametrize("visitor", [OTTO, ADA, MACHINE])
def test_a_change_of_tags_leaves_the_starter_alone(visitor: Visitor) -> None:
    run = run_of("RUNNING", ["old", *OF_OTTO])
    body = {"tags": ["new", "started-by:ada"]}
    assert permitted("PATCH", RUN, body, visitor, run) == {"tags": ["new", *OF_OTTO]}
    assert permitted("PATCH", RUN, {"name": "x"}, visitor, run) == {"name": "x"}


def test_a_key_of_a_visitor_finds_no_run_of_anybody_else() -> None:
    body = {"idempotency_key": f"{ID}-share-1"}
    keys = {permitted("POST", START, body, each, DEPLOYMENT)["idempotency_key"] for each in (OTTO, ADA)}
    assert len(keys | {body["idempotency_key"]}) == 3
    assert permitted("POST", START, {"idempotency_key": None}, OTTO, DEPLOYMENT)["idempotency_key"] is None


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
        ("POST", START, {"enforce_parameter_schema": "false"}),
        ("POST", START, {"enforce_parameter_schema": 0}),
        ("POST", START, {"work_queue_name": "inference"}),
        ("POST", START, {"work_queue_name": ["training"]}),
        ("POST", START, {"state": {"type": "RUNNING"}}),
        ("POST", START, {"state": {"type": "SCHEDULED", "data": {"type": "reference"}}}),
        ("POST", START, {"state": {"type": "SCHEDULED", "state_details": {"child_flow_run_id": ID}}}),
        ("POST", START, {"state": "SCHEDULED"}),
        ("POST", START, {"parameters": {"a": [{"b": VARIABLE}]}}),
        ("POST", START, {"parameters": {"a": {"__prefect_kind": "json", "value": VARIABLE}}}),
        ("POST", START, {"parameters": {"a": TEMPLATE}}),
        ("POST", START, {"tags": "started-by:ada"}),
        ("POST", START, {"tags": [1]}),
        ("POST", START, []),
        ("POST", START, None),
        ("POST", STATE, {"state": {"type": "COMPLETED"}}),
        ("POST", STATE, {"state": {"type": "FAILED"}}),
        ("POST", STATE, {"state": {"type": "CANCELLED", "data": 1}}),
        ("POST", STATE, {}),
        ("POST", STATE, None),
        ("POST", RESUME, {"run_input": {"comment": VARIABLE}}),
        ("POST", RESUME, {"run_input": {"comment": TEMPLATE}}),
        ("POST", RESUME, {"another": 1}),
        ("POST", VALIDATE, {"schema": SCHEMA, "values": {"model_name": VARIABLE}}),
        ("POST", VALIDATE, {"schema": SCHEMA, "values": VARIABLE}),
        ("PATCH", RUN, {"job_variables": {"command": "id"}}),
        ("PATCH", RUN, {"parameters": {"x": 1}}),
        ("PATCH", f"/api/deployments/{ID}/schedules/{ID}", {"active": True, "parameters": {"x": 1}}),
        ("PATCH", f"/api/deployments/{ID}/schedules/{ID}", {"schedule": {"interval": 1}}),
    ],
)
def test_an_operator_cannot_say_more_than_the_deployment(method: str, path: str, body: Any) -> None:
    with pytest.raises(RequestRefusedError, match=r"xpected .*; found "):
        permitted(method, path, body, OTTO, asked_about(path))


def new_state(kind: str) -> dict[str, Any]:
    details = {
        "transition_id": ID,
        "scheduled_time": "2026-01-01T00:00:00Z",
        "cache_key": None,
        "pause_reschedule": False,
    }
    return {"state": {"type": kind, "name": "x", "message": None, "state_details": details}, "force": True}


@pytest.mark.parametrize("kind", ["PAUSED", "CANCELLING", "CANCELLED", "cancelled"])
def test_an_operator_stops_any_run_that_has_not_ended(kind: str) -> None:
    body = new_state(kind)
    for present in ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "CRASHED"):
        assert permitted("POST", STATE, body, OTTO, run_of(present, OF_ADA)) == body
    for present in ("COMPLETED", "FAILED", "CANCELLED"):
        with pytest.raises(RequestRefusedError, match=f"a run that has not ended; found {present}"):
            permitted("POST", STATE, body, OTTO, run_of(present, OF_OTTO))


@pytest.mark.parametrize("kind", ["SCHEDULED", "scheduled"])
def test_an_operator_retries_a_run_of_their_own_whose_work_is_not_done(kind: str) -> None:
    body = new_state(kind)
    for present in ("FAILED", "CRASHED", "CANCELLED"):
        assert permitted("POST", STATE, body, OTTO, run_of(present, ["x", *OF_OTTO])) == body
    for present in ("COMPLETED", "RUNNING", "PENDING", "PAUSED", "SCHEDULED", "CANCELLING"):
        with pytest.raises(RequestRefusedError, match=f"FAILED, CRASHED or CANCELLED; found {present}"):
            permitted("POST", STATE, body, OTTO, run_of(present, OF_OTTO))


@pytest.mark.parametrize(
    ("tags", "whose"),
    [
        (OF_ADA, "ada has started as admin"),
        (["started-by:olga", "role:operator"], "olga has started as operator"),
        (["started-by:otto", "role:admin"], "otto has started as admin"),  # when he was, or with another token
        ([*OF_OTTO, "started-by:ada"], "? has started as ?"),
        ([], "one of the stack itself"),
    ],
    ids=str,
)
def test_only_an_admin_retries_a_run_that_goes_on_with_the_rights_of_somebody_else(tags: list[str], whose: str) -> None:
    body, failed = new_state("SCHEDULED"), run_of("FAILED", tags)
    with pytest.raises(RequestRefusedError) as refused:
        permitted("POST", STATE, body, OTTO, failed)
    assert whose in str(refused.value)
    assert permitted("POST", STATE, body, ADA, failed) == body


ANSWER = {"decision": "approve", "name": "ada (head of safety)", "comment": "checked"}


@pytest.mark.parametrize("visitor", [OTTO, ADA])
def test_whoever_answers_does_so_in_their_own_name(visitor: Visitor) -> None:
    body = {"run_input": ANSWER}
    assert permitted("POST", RESUME, body, visitor, WAITING) == {"run_input": {**ANSWER, "name": visitor.name}}
    for hidden in ({"__prefect_kind": "json", "value": "{}"}, [ANSWER], "text"):
        with pytest.raises(RequestRefusedError, match=r"xpected .*; found "):
            permitted("POST", RESUME, {"run_input": hidden}, visitor, WAITING)


def test_a_run_that_does_not_wait_gets_no_answer_and_one_that_asks_nothing_goes_on() -> None:
    for present in ("SCHEDULED", "RUNNING", "COMPLETED"):
        assert permitted("POST", RESUME, {"run_input": ANSWER}, OTTO, run_of(present, OF_ADA, KEYSET)) == {}
    for body in (None, {}, {"run_input": None}):  # as Prefect's page, and its client
        assert permitted("POST", RESUME, body, OTTO, run_of("PAUSED", OF_ADA)) == (body or {})
    other = {"schema": "s", "description": "d", "response": "r"}  # the form of a flow of somebody's own
    assert permitted("POST", RESUME, {"run_input": {"x": 1}}, OTTO, run_of("PAUSED", [], other)) == {
        "run_input": {"x": 1}
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(a+)+$"},
        {**SCHEMA, "title": "x"},
        {"properties": {"model_name": {"type": "string", "pattern": "^(a+)+$"}}},
        {"properties": {"another": {"type": "string"}}},
        {"required": ["model_name", "model_name"]},
        None,
        "text",
    ],
    ids=str,
)
def test_values_are_looked_at_by_the_schema_of_a_deployment_alone(schema: object) -> None:
    deployments = [{"parameter_openapi_schema": None}, {"parameter_openapi_schema": SCHEMA}]
    values = {"model_name": {"__prefect_kind": "none", "value": "shapes"}}
    for part in (SCHEMA, {"properties": {"model_name": {}}, "required": ["model_name"]}):
        known = {"schema": part, "values": values}
        assert permitted("POST", VALIDATE, known, OTTO, deployments) == known
    asked = {"schema": schema, "values": values}
    assert permitted("POST", VALIDATE, asked, OTTO, deployments[1:]) == {"schema": {}, "values": values}
    assert permitted("POST", VALIDATE, asked, ADA, deployments) == asked


def test_an_admin_may_say_all_of_it() -> None:
    body = {"job_variables": {"x": 1}, "state": {"type": "RUNNING"}, "tags": [], "work_queue_name": "x"}
    assert permitted("POST", START, body, ADA, DEPLOYMENT)["job_variables"] == {"x": 1}
    done = run_of("COMPLETED", [])
    for state in ("COMPLETED", "SCHEDULED"):
        assert permitted("POST", STATE, {"state": {"type": state}}, ADA, done) == {"state": {"type": state}}


def test_bodies_of_other_requests_pass_as_they_are() -> None:
    assert not checks_body("POST", "/api/flow_runs/filter", OTTO)
    assert not checks_body("GET", START, OTTO)
    assert lookup_of("GET", START, None, OTTO) is None


@pytest.mark.parametrize(
    ("method", "path", "lookup"),
    [
        ("POST", START, Lookup("GET", f"/api/deployments/{ID}")),
        ("PATCH", RUN, Lookup("GET", RUN)),
        ("POST", STATE, Lookup("GET", RUN)),
        ("POST", RESUME, Lookup("GET", RUN)),
        ("POST", "/api/flow_runs/a?b#c/resume", Lookup("GET", "/api/flow_runs/a%3Fb%23c")),
        ("POST", VALIDATE, Lookup("POST", "/api/deployments/filter", {})),
        ("POST", f"{START}/bulk", None),
        ("POST", "/api/flow_runs/", None),
    ],
)
def test_a_body_is_judged_by_what_its_address_names(method: str, path: str, lookup: Lookup | None) -> None:
    assert lookup_of(method, path, None, OTTO) == lookup


@pytest.mark.parametrize("path", TEMPLATES)
def test_a_template_that_is_looked_at_is_of_a_length_that_people_write(path: str) -> None:
    assert checks_body("POST", path, OTTO)
    assert lookup_of("POST", path, "x", OTTO) is None
    for body in ("{{ event.id }}", "(" * 10_000, None, {"a": 1}):
        assert permitted("POST", path, body, OTTO, None) == body
    with pytest.raises(RequestRefusedError, match="found 10001") as refused:
        permitted("POST", path, "(" * 10_001, OTTO, None)
    assert refused.value.status == 422

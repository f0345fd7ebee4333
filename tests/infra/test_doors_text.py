"""Text that the databases cannot keep, sent to the running services: refused with a sentence, and never a 5xx.

Prefect answered 503, which its clients take for a server that is away; MLflow 500, after which its clients ask for
minutes again; and an event that cannot be written took the others of its batch with it.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.sync.client import connect

from infra.stack_settings import StackSettings
from tests.clients import mlflow_api, prefect_api
from tests.waiting import eventually

UNKEPT = {"NUL": "a\0b", "high half": "a\ud83d", "low half": "\ude00b"}
KEPT = 'a\\u0000 "\\ 😀'  # the six characters after a backslash, and a whole pair


@pytest.fixture(scope="module")
def prefect(stack: StackSettings) -> Iterator[httpx.Client]:
    with prefect_api(stack) as api:
        yield api


@pytest.fixture(scope="module")
def mlflow(stack: StackSettings) -> Iterator[httpx.Client]:
    with mlflow_api(stack) as api:
        yield api


def validation(prefect: httpx.Client) -> str:
    """Where runs of validate-dataset are made."""
    found = prefect.get("/deployments/name/validate-dataset/gpu").raise_for_status().json()["id"]
    return f"/deployments/{found}/create_flow_run"


def event(name: str, value: str) -> dict[str, Any]:
    resource = {"prefect.resource.id": name}
    now = datetime.now(UTC).isoformat()
    return {"occurred": now, "event": name, "resource": resource, "payload": {"x": value}, "id": str(uuid4())}


ASKED: dict[str, Callable[[str], tuple[str, object]]] = {
    "run name": lambda text: ("run", {"name": text, "parameters": {"archive": "a.zip"}}),
    "run tag": lambda text: ("run", {"tags": [text], "parameters": {"archive": "a.zip"}}),
    "run parameter": lambda text: ("run", {"parameters": {"archive": text}}),
    "unknown parameter": lambda text: ("run", {"parameters": {"archive": "a.zip", "unknown": text}}),
    "name of a parameter": lambda text: ("run", {"parameters": {"archive": "a.zip", text: 1}}),
    "labels": lambda text: ("run", {"parameters": {"archive": "a.zip"}, "labels": {text: text}}),
    "idempotency key": lambda text: ("run", {"parameters": {"archive": "a.zip"}, "idempotency_key": text}),
    "state message": lambda text: ("run", {"state": {"type": "SCHEDULED", "message": text}}),
    "flow": lambda text: ("/flows/", {"name": text}),
    "variable": lambda text: ("/variables/", {"name": "text", "value": {"nested": [text]}}),
    "artifact": lambda text: ("/artifacts/", {"key": "text", "type": "markdown", "data": text}),
    "concurrency limit": lambda text: ("/v2/concurrency_limits/", {"name": text, "limit": 1}),
    "filter of runs": lambda text: ("/flow_runs/filter", {"flow_runs": {"name": {"any_": [text]}}}),
    "filter of events": lambda text: ("/events/filter", {"filter": {"event": {"name": [text]}}}),
    "events": lambda text: ("/events", [event("good", "good"), event("bad", text)]),
}


@pytest.mark.parametrize("what", ASKED)
def test_prefect_refuses_what_its_database_cannot_keep(prefect: httpx.Client, what: str) -> None:
    """In all that a client sends, as an escape and as bytes; an escaped backslash and a whole pair are let in."""
    for text in UNKEPT.values():
        path, body = ASKED[what](text)
        path = validation(prefect) if path == "run" else path
        for ascii_only in (True, False):
            content = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            answer = prefect.post(path, content=content)
            assert answer.status_code == (409 if "create_flow_run" in path else 422), answer.text
            assert "expected text that a database can keep" in answer.json()["error"]
    path, body = ASKED[what](KEPT)
    if path != "run":  # a worker would take it
        assert prefect.post(path, json=body).status_code < 500


def test_every_route_of_prefect_with_a_body_refuses_it(prefect: httpx.Client, stack: StackSettings) -> None:
    described = prefect.get(f"http://127.0.0.1:{stack.prefect_port}/openapi.json").json()["paths"]
    routes = {
        (method, re.sub("{.*?}", str(uuid4()), path.removeprefix("/api")))
        for path, methods in described.items()
        for method, about in methods.items()
        if "requestBody" in about
    }
    assert len(routes) > 80
    kept = {"/logs/", "/logs/filter"}  # those have U+FFFD in its place
    answers = {route: prefect.request(*route, json={"name": "\0"}) for route in routes if route[1] not in kept}
    assert {
        route: answer.text for route, answer in answers.items() if "found the character NUL" not in answer.text
    } == {}


@pytest.mark.parametrize("path", ["/flows/name/%00", "/deployments/name/a/%00", "/block_types/slug/a?x=%00"])
def test_an_address_with_a_nul_is_refused(prefect: httpx.Client, mlflow: httpx.Client, path: str) -> None:
    assert prefect.get(path).status_code == 422
    assert mlflow.get("/api/2.0/mlflow/runs/get?run_id=%00").status_code == 422


@pytest.mark.parametrize(
    "value",
    [
        {"__prefect_kind": "json", "value": r'"\u0000"'},
        {"__prefect_kind": "jinja", "template": r"{{ '\x00' }}"},
        {"__prefect_kind": "json", "value": r'"\ud83d"'},
    ],
)
def test_what_prefect_itself_would_make_of_a_value_is_refused(prefect: httpx.Client, value: object) -> None:
    """No body says that; its database does, and Prefect then said 503."""
    answer = prefect.post(validation(prefect), json={"parameters": {"archive": "a.zip", "unknown": value}})
    assert 400 <= answer.status_code < 500, answer.text


def test_a_number_that_no_column_holds_is_refused(prefect: httpx.Client) -> None:
    answer = prefect.post("/flow_runs/filter", json={"offset": 10**20})
    assert answer.status_code == 422
    assert "expected values that the database can keep" in answer.text


def test_lines_of_a_log_are_kept_with_another_character(prefect: httpx.Client) -> None:
    """Nobody reads the answer there, and the lines beside it count."""
    run = str(uuid4())
    lines = [
        {"name": "x", "level": 20, "message": message, "timestamp": datetime.now(UTC).isoformat(), "flow_run_id": run}
        for message in ("before", *UNKEPT.values())
    ]
    prefect.post("/logs/", content=json.dumps(lines)).raise_for_status()
    found = prefect.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}}).raise_for_status().json()
    assert {line["message"] for line in found} == {"before", "a\ufffdb", "a\ufffd", "\ufffdb"}


def test_an_event_with_such_text_takes_no_other_with_it(prefect: httpx.Client, stack: StackSettings) -> None:
    name = f"text.{uuid4()}"
    address = stack.environment["PREFECT_API_URL"].replace("http", "ws", 1) + "/events/in"
    with connect(address, proxy=None, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": stack.environment["PREFECT_API_AUTH_STRING"]}))
        assert json.loads(socket.recv(10)) == {"type": "auth_success"}
        for text in ("before", *UNKEPT.values(), "after"):
            socket.send(json.dumps(event(name, text)))

    def kept() -> set[str]:
        wanted = {"filter": {"event": {"name": [name]}}}
        found = prefect.post("/events/filter", json=wanted).raise_for_status().json()["events"]
        return {each["payload"]["x"] for each in found}

    eventually(lambda: kept() == {"before", "a\ufffdb", "a\ufffd", "\ufffdb", "after"}, "all five events")


TRACKED: dict[str, Callable[[str], dict[str, object]]] = {
    "experiments/create": lambda text: {"name": text},
    "experiments/set-experiment-tag": lambda text: {"experiment_id": "0", "key": "x", "value": text},
    "experiments/search": lambda text: {"max_results": 1, "filter": f"name = '{text}'"},
    "runs/create": lambda text: {"experiment_id": "0", "run_name": text, "tags": [{"key": "x", "value": text}]},
    "runs/update": lambda text: {"run_id": "RUN", "run_name": text},
    "runs/set-tag": lambda text: {"run_id": "RUN", "key": "x", "value": text},
    "runs/log-parameter": lambda text: {"run_id": "RUN", "key": "x", "value": text},
    "runs/log-metric": lambda text: {"run_id": "RUN", "key": text, "value": 1, "timestamp": 1},
    "runs/log-batch": lambda text: {"run_id": "RUN", "params": [{"key": text, "value": "x"}]},
    "runs/search": lambda text: {"experiment_ids": ["0"], "filter": f"tags.x = '{text}'"},
    "registered-models/create": lambda text: {"name": text, "description": text},
    "registered-models/set-tag": lambda text: {"name": "text", "key": "x", "value": text},
}


@pytest.mark.parametrize("what", TRACKED)
def test_mlflow_refuses_what_its_database_cannot_keep(mlflow: httpx.Client, what: str) -> None:
    made = mlflow.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).raise_for_status().json()
    run = made["run"]["info"]["run_id"]
    for text in UNKEPT.values():
        body = json.dumps(TRACKED[what](text)).replace('"RUN"', json.dumps(run))
        for prefix in ("/api", "/ajax-api"):
            answer = mlflow.post(f"{prefix}/2.0/mlflow/{what}", content=body)
            assert answer.status_code == 422, answer.text
            assert "expected text that a database can keep" in answer.json()["error"]
    body = json.dumps(TRACKED[what](KEPT)).replace('"RUN"', json.dumps(run))
    assert mlflow.post(f"/api/2.0/mlflow/{what}", content=body).status_code < 500


def test_files_of_any_bytes_go_into_the_bucket(mlflow: httpx.Client) -> None:
    content = b'{"x": "\\u0000"}\0\xed\xa0\x80' * 50_000
    place = f"/api/2.0/mlflow-artifacts/artifacts/text-{uuid4()}"
    mlflow.put(place, content=content).raise_for_status()
    assert mlflow.get(place).raise_for_status().content == content


@pytest.mark.parametrize("name", ["a%00b", "%ed%a0%80", "%ff"])
def test_the_live_page_says_that_there_is_no_such_model(stack: StackSettings, name: str) -> None:
    answer = httpx.post(f"http://127.0.0.1:{stack.live_port}/predict/{name}", content=b"x")
    assert 400 <= answer.status_code < 500, answer.text

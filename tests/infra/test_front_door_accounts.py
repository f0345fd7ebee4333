"""The front door with the real front page behind it: accounts, tokens, sessions, and a browser (`make proof`)."""

import base64
import html
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.connection import Connection

from infra.accounts.audit import AuditChoice, RecordedEntry, list_entries
from infra.accounts.bootstrap import STACK_OWNER, open_accounts
from infra.accounts.cookies import SESSION
from infra.accounts.database import Database
from infra.accounts.people import set_disabled, set_role
from infra.accounts.roles import UserRole
from infra.front_door import program
from infra.front_page.access import token as token_of
from infra.logs.query import Query
from infra.logs.reader import read_forwards
from infra.person_keys import give_key, read_keys
from infra.services import s3_client
from tasks.deployment.approval_form import ApprovalForm
from tasks.orchestration.questions import KEYSET
from tests.infra.accounts.populations import PASSWORD, add_person, add_session, add_token, pass_time
from tests.infra.accounts.prefect_form import form_of_a_run
from tests.infra.browser import OpenBrowser, Page
from tests.infra.logs.log_folder import ours
from tests.infra.public import NAME, Public, open_socket, run_public
from tests.waiting import eventually

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed"),
]
READING = [
    ("POST", "/prefect/api/flow_runs/filter"),
    ("POST", "/mlflow/api/2.0/mlflow/experiments/search"),
    ("GET", "/datasets"),
]


@pytest.fixture(scope="module")
def public() -> Iterator[Public]:
    with run_public(with_accounts=True) as running:
        yield running


@pytest.fixture(scope="module")
def accounts(public: Public) -> Iterator[Database]:
    with open_accounts(public.settings) as database:
        yield database


@pytest.fixture
def person(accounts: Database, request: pytest.FixtureRequest) -> str:
    """The name of an operator that a test has alone."""
    name: str = request.node.name.replace("_", "-")[5:60].rstrip("-")
    add_person(accounts, name, UserRole.OPERATOR)
    return name


def statuses(public: Public, auth: tuple[str, str] | None, **headers: str) -> set[int]:
    """The statuses of an attempt to read each part."""
    with public.client(**headers) as client:
        answers = (client.request(method, path, auth=auth, json={"max_results": 1}) for method, path in READING)
        return {answer.status_code for answer in answers}


def test_a_token_opens_every_part_until_it_expires(public: Public, accounts: Database, person: str) -> None:
    token = add_token(accounts, person)
    assert statuses(public, (person, token)) == {200}
    assert statuses(public, None, Authorization=f"Bearer {token}") == {200}
    assert statuses(public, (person, token[:-1] + "x")) == {401}
    assert statuses(public, (person, PASSWORD)) == {401}
    pass_time(accounts, "tokens", "expires", "31 days")
    assert statuses(public, (person, token)) == {401}
    pass_time(accounts, "tokens", "expires", "-31 days")


def test_another_role_and_the_end_of_an_account_hold_at_once(public: Public, accounts: Database, person: str) -> None:
    auth = (person, add_token(accounts, person))
    path = "/prefect/api/saved_searches/"
    with public.client() as client:
        assert client.put(path, auth=auth, json={"name": "x"}).is_success
        set_role(accounts, person, UserRole.VIEWER, STACK_OWNER)
        assert client.put(path, auth=auth, json={"name": "x"}).status_code == 403
    set_disabled(accounts, person, STACK_OWNER, disabled=True)
    assert statuses(public, auth) == {401}


def test_a_session_acts_from_our_own_pages_alone(public: Public, accounts: Database, person: str) -> None:
    cookie = f"{SESSION}={add_session(accounts, person)}"
    path = "/prefect/api/saved_searches/"
    with public.client(Cookie=cookie) as browser:
        for origin, status in ((public.url, 200), ("https://evil.example", 403), ("null", 403)):
            answer = browser.put(path, json={"name": "y"}, headers={"Origin": origin})
            assert answer.status_code == status if status == 403 else answer.is_success


def test_the_passwords_of_the_machine_open_nothing_outside(public: Public) -> None:
    for name in ("prefect", "mlflow", "front_page"):
        assert statuses(public, ("studio", public.settings.secrets[name])) == {401}


def test_a_socket_that_gives_its_key_in_the_first_message_is_known(
    public: Public, accounts: Database, person: str
) -> None:
    token = add_token(accounts, person)
    address = f"wss://{NAME}:{public.settings.public_port}/prefect/api/events"
    with open_socket(public, f"{address}/out") as opened:
        opened.send(json.dumps({"type": "auth", "token": f"{person}:{token}"}))
        assert json.loads(opened.recv(10))["type"] == "auth_success"
    for path, given in (("out", f"{person}:x"), ("in", f"{person}:{token}")):
        with open_socket(public, f"{address}/{path}") as opened:
            opened.send(json.dumps({"type": "auth", "token": given}))
            with pytest.raises(ConnectionClosed):
                opened.recv(10)
    basic = base64.b64encode(f"{person}:{token}".encode()).decode()
    with open_socket(public, f"{address}/out", {"Authorization": f"Basic {basic}"}) as opened:
        opened.send(json.dumps({"type": "auth", "token": "x"}))
        assert json.loads(opened.recv(10))["type"] == "auth_success"


def test_a_request_that_plays_a_socket_is_kept_in_the_audit_log(
    public: Public, accounts: Database, person: str
) -> None:
    set_role(accounts, person, UserRole.ADMIN, STACK_OWNER)
    auth = (person, add_token(accounts, person, UserRole.ADMIN))
    plays = {"Sec-WebSocket-Key": "eA==", "X-Studio-Socket": "websocket"}
    variables = "/prefect/api/variables/"
    with public.client() as client:
        for name, headers in (("plain", {}), ("hidden", plays)):
            assert client.post(variables, auth=auth, json={"name": name, "value": 1}).is_success
            assert client.delete(f"{variables}name/{name}", auth=auth, headers=headers).is_success
    kept = list_entries(accounts, AuditChoice(name=person, part="prefect"), before=None, limit=9)
    assert [entry.method for entry in kept] == ["DELETE", "POST", "DELETE", "POST"]


def test_a_viewer_reads_no_audit_log_and_writes_no_line_of_others(
    public: Public, accounts: Database, person: str
) -> None:
    """Neither by a search that PostgreSQL refuses, nor by a header that names a run."""
    auth = (person, add_token(accounts, person))
    forged = ours(9, f"{person} was here", level="critical", service="training-worker")
    token = base64.urlsafe_b64encode(json.dumps({"offset": 10**30}).encode()).decode()
    search = {"experiment_ids": ["0"], "filter": f"tags.x = '{forged}{forged}'", "page_token": token}
    run = str(uuid4())
    with public.client() as client:
        client.put("/prefect/api/saved_searches/", auth=auth, json={"name": "audited"})
        set_role(accounts, person, UserRole.VIEWER, STACK_OWNER)
        answer = client.post("/mlflow/api/2.0/mlflow/runs/search", auth=auth, json=search)
        assert answer.status_code >= 400
        assert client.get("/sign-in", headers={"X-Studio-Flow-Run": run}).is_success
        assert client.get("/datasets", auth=auth, headers={"X-Studio-Flow-Run": run}).is_success
        folder = public.settings.state_dir / "logs"
        request = answer.headers.get_list("x-request-id")[0]
        eventually(lambda: [*read_forwards(folder, Query(request=request))], "the line of the request", 10)
        assert person in (folder / "studio.log").read_text()
        answer = client.get("/logs/lines?service=studio&level=debug", auth=auth)
        assert answer.is_success
        assert '"audit"' not in html.unescape(answer.text)
    assert "was here" not in (folder / "postgres.log").read_text()
    assert {line.service for line in read_forwards(folder, Query(text="was here"))} <= {"mlflow"}
    assert [*read_forwards(folder, Query(runs=[run]))] == []


def test_a_person_signs_in_with_a_browser_and_uploads_an_archive(
    public: Public, person: str, open_browser: OpenBrowser, tmp_path: Path
) -> None:
    """Through TLS, the form, the page, and the signed addresses of the store's own port."""
    archive = tmp_path / "from outside.zip"
    archive.write_bytes(b"no zip" * 1000)
    outside = ("--ignore-certificate-errors", f"--host-resolver-rules=MAP {NAME} 127.0.0.1")
    with open_browser(tmp_path / "profile", *outside) as page:
        page.open(f"{public.url}/datasets")
        page.wait("!!document.querySelector('#password')")
        for field, value in (("name", person), ("password", PASSWORD)):
            page.js(f"document.querySelector('#{field}').value = {json.dumps(value)}")
        page.js("document.querySelector('form button.main').click()")
        page.wait(f"document.body?.innerText.includes({json.dumps(person)})")
        page.wait("document.readyState === 'complete' && !!document.querySelector('#upload-files')")
        page.choose("#upload-files", archive)
        store = s3_client(public.settings)
        eventually(lambda: _size(store, archive.name), "the archive in the store", 60)
        assert _size(store, archive.name) == archive.stat().st_size
        page.open(f"{public.url}/prefect/runs")
        page.wait("location.pathname.startsWith('/prefect/') && document.body?.innerText.includes('Runs')", 60)
        assert "password" not in page.js("document.body.innerText").lower()


def _size(store: object, key: str) -> int:
    listed = store.list_objects_v2(Bucket="datasets", Prefix=key).get("Contents", [])  # type: ignore[attr-defined]
    return listed[0]["Size"] if listed else 0


def test_a_stranger_outside_gets_the_form_and_no_more(public: Public) -> None:
    with public.client() as stranger:
        page = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
        for path in ("/", "/datasets", "/live", "/prefect/", "/mlflow/"):
            answer = stranger.get(path, headers=page)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (302, "/sign-in")
        assert stranger.get("/sign-in").status_code == 200
        for path in ("/live", "/models", "/predict/x"):
            assert stranger.get(path).status_code == 401


def test_the_store_has_no_session(public: Public, accounts: Database, person: str) -> None:
    cookie = f"{SESSION}={add_session(accounts, person)}"
    with public.client(Cookie=cookie) as browser:
        url = httpx.URL(public.settings.public_s3_url)
        assert browser.get(url.join("/datasets/")).status_code == 403


SCHEMA = {
    "type": "object",
    "properties": {"model_name": {"type": "string", "pattern": "^[a-z]+$"}},
    "required": ["model_name"],
}


class Prefect(NamedTuple):
    """Prefect as the machine asks it, and a deployment there that no worker looks at."""

    client: httpx.Client
    deployment: str

    def ask(self, method: str, path: str, body: object = None) -> Any:
        answer = self.client.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def go_through(self, run: str, *states: dict[str, Any]) -> None:
        for state in states:
            assert self.ask("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})["state"]


@pytest.fixture(scope="module")
def prefect(public: Public) -> Iterator[Prefect]:
    address = f"http://127.0.0.1:{public.settings.prefect_port}/api"
    password = ("studio", public.settings.secrets["prefect"])
    with httpx.Client(base_url=address, auth=password, timeout=30, trust_env=False) as client:
        prefect = Prefect(client, "")
        prefect.ask("POST", "/work_pools/", {"name": "gpu", "type": "process"})
        prefect.ask("POST", "/work_pools/gpu/queues", {"name": "general"})
        body = {
            "name": "gpu",
            "flow_id": prefect.ask("POST", "/flows/", {"name": "undeploy-model"})["id"],
            "work_pool_name": "gpu",
            "work_queue_name": "default",
            "enforce_parameter_schema": True,
            "parameter_openapi_schema": SCHEMA,
        }
        yield prefect._replace(deployment=prefect.ask("POST", "/deployments/", body)["id"])


@pytest.fixture
def outside(public: Public, accounts: Database, person: str) -> Iterator[httpx.Client]:
    """Prefect's API as the operator of a test reaches it."""
    with public.client() as client:
        client.auth = httpx.BasicAuth(person, add_token(accounts, person))
        client.base_url = client.base_url.join("/prefect/api")
        yield client


@pytest.fixture(scope="module")
def admins(public: Public, accounts: Database) -> Iterator[httpx.Client]:
    """The same, as ada, who is an admin."""
    add_person(accounts, "ada", UserRole.ADMIN)
    with public.client() as client:
        client.auth = httpx.BasicAuth("ada", add_token(accounts, "ada", UserRole.ADMIN))
        client.base_url = client.base_url.join("/prefect/api")
        yield client


def start(client: httpx.Client, prefect: Prefect, **body: object) -> dict[str, Any]:
    body = {"parameters": {"model_name": "shapes"}, **body}
    run: dict[str, Any] = (
        client.post(f"/deployments/{prefect.deployment}/create_flow_run", json=body).raise_for_status().json()
    )
    return run


def test_a_schema_of_ones_own_costs_nothing_and_tells_no_variable(
    outside: httpx.Client, admins: httpx.Client, prefect: Prefect
) -> None:
    admins.post("/variables/", json={"name": "vault", "value": "TOP-SECRET"}).raise_for_status()
    path = "/ui/schemas/validate"
    values = {"x": {"__prefect_kind": "workspace_variable", "variable_name": "vault"}}
    number = {"type": "object", "properties": {"x": {"type": "integer"}}}
    told = outside.post(path, json={"schema": number, "values": values})
    assert (told.status_code, "TOP-SECRET" in told.text) == (403, False)
    began = time.monotonic()
    endless = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    answer = outside.post(path, json={"schema": endless, "values": {"x": "a" * 40 + "!"}})
    assert (answer.json()["valid"], time.monotonic() - began < 5) == (True, True)
    known = prefect.ask("GET", f"/deployments/{prefect.deployment}")["parameter_openapi_schema"]
    for name, valid in (("shapes", True), ("NOT VALID", False)):
        body = {"schema": known, "values": {"model_name": name}}
        assert outside.post(path, json=body).json()["valid"] is valid


def test_a_viewer_has_no_form_to_check(public: Public, accounts: Database, person: str) -> None:
    set_role(accounts, person, UserRole.VIEWER, STACK_OWNER)
    with public.client() as client:
        auth = (person, add_token(accounts, person, UserRole.VIEWER))
        answer = client.post("/prefect/api/ui/schemas/validate", auth=auth, json={"schema": {}, "values": {}})
    assert answer.status_code == 403


def test_an_answer_has_the_name_of_who_gave_it_and_none_comes_before_its_question(
    outside: httpx.Client, admins: httpx.Client, prefect: Prefect, person: str
) -> None:
    run = start(admins, prefect)["id"]
    forged = {"run_input": {"decision": "approve", "name": "ada", "comment": "checked by me"}}
    for key in (KEYSET["response"], "question-subject"):
        body = {"key": key, "value": json.dumps(forged["run_input"])}
        assert outside.post(f"/flow_runs/{run}/input", json=body).status_code == 403
    assert outside.post(f"/flow_runs/{run}/resume", json=forged).json()["status"] == "ABORT"
    wait_for_approval(prefect, run)
    asked = {"schema": forged["run_input"], "values": {}}  # what Prefect's page asks before it sends an answer
    assert outside.post("/ui/schemas/validate", json=asked).json() == {"valid": True, "errors": []}
    hidden = {"run_input": {"__prefect_kind": "json", "value": json.dumps(forged["run_input"])}}
    assert outside.post(f"/flow_runs/{run}/resume", json=hidden).status_code == 403
    assert outside.post(f"/flow_runs/{run}/resume", json=forged).json()["status"] == "ACCEPT"
    kept = prefect.client.get(f"/flow_runs/{run}/input/{KEYSET['response']}").json()
    assert kept == {**forged["run_input"], "name": person}


def test_a_worker_has_no_run_go_on_that_waits_for_people(
    public: Public, accounts: Database, admins: httpx.Client, prefect: Prefect, person: str
) -> None:
    set_role(accounts, person, UserRole.WORKER, STACK_OWNER)
    run = start(admins, prefect)["id"]
    wait_for_approval(prefect, run)
    answer = {"run_input": {"decision": "approve", "name": person, "comment": ""}}
    with public.client() as client:
        client.auth = (person, add_token(accounts, person, UserRole.WORKER))
        assert client.get(f"/prefect/api/flow_runs/{run}").json()["state_type"] == "PAUSED"
        for path, body in (
            (f"{run}/resume", answer),
            (f"{run}/input", {"key": KEYSET["response"], "value": json.dumps(answer["run_input"])}),
            *(
                (f"{run}/set_state", {"state": {"type": kind}, "force": True})
                for kind in ("SCHEDULED", "COMPLETED", "CANCELLED", "PAUSED")
            ),
        ):
            assert client.post(f"/prefect/api/flow_runs/{path}", json=body).status_code == 403
    assert prefect.ask("GET", f"/flow_runs/{run}")["state_type"] == "PAUSED"


def test_a_worker_has_nothing_done_again_in_the_name_of_somebody_else(
    public: Public, accounts: Database, admins: httpx.Client, prefect: Prefect, person: str
) -> None:
    """Neither by a state, nor by an event that Prefect itself sends, nor by a child of what has ended."""
    set_role(accounts, person, UserRole.WORKER, STACK_OWNER)
    run = start(admins, prefect)["id"]
    prefect.go_through(run, {"type": "PENDING"}, {"type": "RUNNING"}, {"type": "COMPLETED"})
    crashed = {"event": "prefect.flow-run.Crashed", "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"}}
    child = {"parameters": {"model_name": "shapes"}, "tags": [f"pipeline:{run}"]}
    refused = [
        *(
            (f"flow_runs/{run}/set_state", {"state": {"type": kind}, "force": True})
            for kind in ("SCHEDULED", "RUNNING")
        ),
        (f"deployments/{prefect.deployment}/create_flow_run", child),
        (
            f"deployments/{prefect.deployment}/create_flow_run",
            {"parameters": {"model_name": "shapes"}, "idempotency_key": "visitor:ada:nightly"},
        ),
        ("events", [{"id": str(uuid4()), "occurred": "2026-01-01T00:00:00Z", **crashed}]),
    ]
    with public.client() as client:
        client.auth = (person, add_token(accounts, person, UserRole.WORKER))
        for path, body in refused:
            assert client.post(f"/prefect/api/{path}", json=body).status_code == 403, path
        assert client.get("/prefect/api/variables/name/vault").status_code == 403
    assert prefect.ask("GET", f"/flow_runs/{run}")["state_type"] == "COMPLETED"
    kept = list_entries(accounts, AuditChoice(name=person, part="prefect", allowed=False), before=None, limit=9)
    assert [entry.path for entry in reversed(kept)] == [
        *(f"/prefect/api/{path}" for path, _ in refused),
        "/prefect/api/variables/name/vault",
    ]
    assert all("xpected" in entry.detail for entry in kept[1:])


def test_a_socket_that_writes_takes_events_of_runs_alone_and_is_closed_when_its_account_is_shut(
    public: Public, accounts: Database, prefect: Prefect, person: str
) -> None:
    set_role(accounts, person, UserRole.WORKER, STACK_OWNER)
    token = add_token(accounts, person, UserRole.WORKER)
    basic = base64.b64encode(f"{person}:{token}".encode()).decode()
    address = f"wss://{NAME}:{public.settings.public_port}/prefect/api/events/in"
    resource = {"prefect.resource.id": f"model:{person}"}
    for headers in ({}, {"Authorization": f"Basic {basic}"}):
        with open_socket(public, address, headers) as opened:
            opened.send(json.dumps({"type": "auth", "token": f"{person}:{token}"}))
            assert json.loads(opened.recv(10))["type"] == "auth_success"
            for name in ("prefect.flow-run.Crashed", "model.trained"):
                occurred = datetime.now(UTC).isoformat()
                opened.send(json.dumps({"event": name, "resource": resource, "occurred": occurred, "id": str(uuid4())}))

            def seen() -> set[str]:
                chosen = {"filter": {"resource": {"id": [f"model:{person}"]}}}
                return {event["event"] for event in prefect.ask("POST", "/events/filter", chosen)["events"]}

            eventually(lambda: "model.trained" in seen(), "the event", 30)
            assert seen() == {"model.trained"}
            if headers:
                set_disabled(accounts, person, STACK_OWNER, disabled=True)
                with pytest.raises(ConnectionClosed):
                    opened.recv(30)
    kept = list_entries(accounts, AuditChoice(name=person, part="prefect", allowed=False), before=None, limit=9)
    assert [entry.method for entry in kept] == ["WEBSOCKET", "WEBSOCKET"]


def test_what_mlflow_refuses_is_kept_with_who_and_why(public: Public, accounts: Database, person: str) -> None:
    refused = [
        ("runs/search", {"experiment_ids": ["0"], "filter": " AND ".join(f"tags.a{n} = 'x'" for n in range(21))}, 400),
        ("experiments/create", {"name": f"of {person}", "artifact_location": "file:///etc"}, 400),
        ("runs/set-tag", {"run_id": "0" * 32, "key": "studio.owner\nadmin", "value": "x"}, 403),
    ]
    with public.client() as client:
        client.auth = (person, add_token(accounts, person))
        for path, body, status in refused:
            assert client.post(f"/mlflow/api/2.0/mlflow/{path}", json=body).status_code == status, path
    chosen = AuditChoice(name=person, part="mlflow", allowed=False)
    kept: list[RecordedEntry] = []

    def are_kept() -> bool:
        kept[:] = list_entries(accounts, chosen, before=None, limit=9)
        return sorted(entry.path.rpartition("/mlflow/")[2] for entry in kept) == sorted(path for path, *_ in refused)

    eventually(are_kept, "an entry of each", 10)  # what a handler refuses is kept when it has answered
    assert all("xpected" in entry.detail and entry.detail.isprintable() for entry in kept)


def test_a_socket_that_reads_is_closed_when_its_session_or_its_account_ends(
    public: Public, accounts: Database, person: str
) -> None:
    key = f"{person}:{add_token(accounts, person)}"
    session = add_session(accounts, person)
    in_a_browser = {"Cookie": f"{SESSION}={session}", "Origin": public.url}
    address = f"wss://{NAME}:{public.settings.public_port}/prefect/api/events/out"
    with (
        open_socket(public, address, in_a_browser) as browser,
        open_socket(public, address) as program,
        public.client(**in_a_browser, **{"X-Studio-Token": token_of(session)}) as page,
    ):
        for opened, said in ((browser, ""), (program, key)):
            opened.send(json.dumps({"type": "auth", "token": said}))
            assert json.loads(opened.recv(10))["type"] == "auth_success"

        def seconds_until_closed(opened: Connection) -> float:
            began = time.monotonic()
            with pytest.raises(ConnectionClosed):
                opened.recv(30)
            return time.monotonic() - began

        assert page.post("/sign-out").status_code < 400
        assert seconds_until_closed(browser) < 15
        program.ping()
        set_disabled(accounts, person, STACK_OWNER, disabled=True)
        assert seconds_until_closed(program) < 15


def wait_for_approval(prefect: Prefect, run: str) -> None:
    """Suspend a run as deploy-model does."""
    schema = json.dumps(ApprovalForm.model_json_schema())
    for part, value in (("description", '"Deploy?"'), ("schema", schema)):
        prefect.ask("POST", f"/flow_runs/{run}/input", {"key": KEYSET[part], "value": value})
    details = {"pause_reschedule": True, "pause_timeout": "2100-01-01T00:00:00Z", "run_input_keyset": KEYSET}
    paused = {"type": "PAUSED", "name": "Suspended", "state_details": details}
    prefect.go_through(run, {"type": "PENDING"}, {"type": "RUNNING"}, paused)


def test_a_run_that_waits_for_no_answer_is_resumed_without_a_body(
    outside: httpx.Client, admins: httpx.Client, prefect: Prefect
) -> None:
    run = start(admins, prefect)["id"]
    waits = {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_reschedule": True}}
    prefect.go_through(run, {"type": "PENDING"}, {"type": "RUNNING"}, waits)
    assert outside.post(f"/flow_runs/{run}/resume").json()["status"] == "ACCEPT"


def test_what_is_done_is_not_done_again_in_the_name_of_somebody_else(
    outside: httpx.Client, admins: httpx.Client, prefect: Prefect
) -> None:
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}, "force": True}
    machines = prefect.ask(
        "POST", f"/deployments/{prefect.deployment}/create_flow_run", {"parameters": {"model_name": "shapes"}}
    )
    cases = (
        *((start(admins, prefect), end, 403) for end in ("COMPLETED", "FAILED", "CANCELLED")),
        (machines, "FAILED", 403),
        (start(outside, prefect), "COMPLETED", 403),
        *((start(outside, prefect), end, 201) for end in ("FAILED", "CRASHED", "CANCELLED")),
    )
    for run, end, status in cases:
        prefect.go_through(run["id"], {"type": "PENDING"}, {"type": "RUNNING"}, {"type": end})
        assert outside.post(f"/flow_runs/{run['id']}/set_state", json=again).status_code == status, (run["tags"], end)
        present = prefect.ask("GET", f"/flow_runs/{run['id']}")
        assert (present["state_type"], set(present["tags"])) == (
            "SCHEDULED" if status == 201 else end,
            set(run["tags"]),
        )
    assert admins.post(f"/flow_runs/{machines['id']}/set_state", json=again).status_code == 201


def test_the_key_of_a_visitor_finds_their_own_run_alone(
    outside: httpx.Client, admins: httpx.Client, prefect: Prefect
) -> None:
    key = f"{start(admins, prefect)['id']}-share-1"
    first, second = (start(outside, prefect, idempotency_key=key)["id"] for _ in range(2))
    body = {"parameters": {"model_name": "shapes"}, "idempotency_key": key}
    child = prefect.ask("POST", f"/deployments/{prefect.deployment}/create_flow_run", body)["id"]
    others = start(admins, prefect, idempotency_key=key)["id"]
    assert first == second
    assert len({first, child, others}) == 3


def test_a_run_is_made_by_the_rules_and_in_the_queue_of_its_deployment(outside: httpx.Client, prefect: Prefect) -> None:
    path = f"/deployments/{prefect.deployment}/create_flow_run"
    for body in (
        {"enforce_parameter_schema": "false", "parameters": {"model_name": "NOT VALID"}},
        {"enforce_parameter_schema": 0, "parameters": {"model_name": "NOT VALID"}},
        {"work_queue_name": "general"},
        {"work_queue_name": "brand-new-queue"},
        {"parameters": {"model_name": {"__prefect_kind": "jinja", "template": "{{ 1 }}"}}},
    ):
        assert outside.post(path, json={"parameters": {"model_name": "shapes"}, **body}).status_code == 403, body
    form = form_of_a_run("default", {}, {"model_name": "shapes"})
    assert outside.post(path, json=form).status_code == 201


def test_what_is_not_there_is_answered_as_such(outside: httpx.Client) -> None:
    for method, path in (("PATCH", ""), ("POST", "/set_state"), ("POST", "/resume")):
        assert outside.request(method, f"/flow_runs/{uuid4()}{path}", json={}).status_code == 404
    assert outside.post(f"/deployments/{uuid4()}/create_flow_run", json={}).status_code == 404


def test_a_password_that_is_reset_takes_the_key_of_the_object_store(
    public: Public, accounts: Database, person: str
) -> None:
    give_key(public.settings, person, UserRole.OPERATOR)
    add_person(accounts, "resets", UserRole.ADMIN)
    session = add_session(accounts, "resets")
    headers = {"Cookie": f"{SESSION}={session}", "X-Studio-Token": token_of(session), "Origin": public.url}
    with public.client(**headers) as browser:
        assert browser.post(f"/accounts/{person}/reset-password").is_success
    assert person not in read_keys(public.settings)


def test_an_operator_starts_a_run_and_answers_a_question_in_both_of_prefects_pages(
    public: Public,
    accounts: Database,
    prefect: Prefect,
    person: str,
    open_browser: OpenBrowser,
    tmp_path: Path,
) -> None:
    outside = ("--ignore-certificate-errors", f"--host-resolver-rules=MAP {NAME} 127.0.0.1")
    session = {"name": SESSION, "value": add_session(accounts, person), "url": public.url, "secure": True, "path": "/"}
    with open_browser(tmp_path / "profile", *outside) as page:
        page.resize(1400, 1200)
        page.call("Network.setCookie", **session)
        for number, base in enumerate(("/prefect", "/prefect/v2"), 1):
            page.open(f"{public.url}{base}/deployments/deployment/{prefect.deployment}/run")
            page.wait("!!document.querySelector('textarea')", 60)
            write(page, "textarea", "shapes")
            press(page, "button", "Submit")
            mine = {"flow_runs": {"tags": {"all_": [f"started-by:{person}", "role:operator"]}}}
            eventually(lambda: len(prefect.ask("POST", "/flow_runs/filter", mine)) == number, "a run of theirs", 30)  # noqa: B023 - called here
        run = start(prefect.client, prefect)["id"]
        wait_for_approval(prefect, run)
        page.open(f"{public.url}/prefect/v2/runs/flow-run/{run}")
        press(page, "button", "Open menu")
        press(page, "[role=menuitem]", "Resume")
        press(page, "[role=dialog] button", "Select")
        press(page, "[role=option]", "approve")
        write(page, "[role=dialog] textarea", "ada (head of safety)")
        press(page, "[role=dialog] button", "Resume")
        page.wait("document.body.innerText.includes('Flow run resumed')")
    kept = prefect.client.get(f"/flow_runs/{run}/input/{KEYSET['response']}").json()
    assert (kept["decision"], kept["name"]) == ("approve", person)


def press(page: Page, kind: str, text: str) -> None:
    """Click an element as a mouse does, once it is there and still."""
    found = (
        f"[...document.querySelectorAll({json.dumps(kind)})].find(each => each.innerText.trim() === {json.dumps(text)})"
    )
    page.wait(f"!!{found}", 60)
    time.sleep(1)  # it takes clicks a while after it is shown
    x, y = page.js(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({found}.getBoundingClientRect())")
    for step in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=step, x=x, y=y, button="left", clickCount=1)


def write(page: Page, field: str, text: str) -> None:
    """Type into the first field."""
    time.sleep(1)  # it takes texts a while after it is shown
    page.js(f"document.querySelector({json.dumps(field)}).focus()")
    page.call("Input.insertText", text=text)

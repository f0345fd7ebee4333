"""The doors of the running services: what each refuses without the password, and what it refuses with it."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from infra import bootstrap, supervisord
from infra.stack import load_settings
from infra.stack_settings import ROOT, StackSettings
from tests.clients import mlflow_api, prefect_api

FOREIGN = [
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
]
OPEN_IN_PREFECT = {"/health", "/ready"}


def paths(api: httpx.Client) -> dict[str, list[str]]:
    """Every path of Prefect's API with its methods, with an id where one belongs."""
    described = api.get(str(api.base_url).removesuffix("/api/") + "/openapi.json").raise_for_status().json()["paths"]
    return {path.removeprefix("/api"): list(methods) for path, methods in described.items()}


def test_prefect_does_nothing_without_the_password(stack: StackSettings) -> None:
    """Nothing but the health checks answers, whatever the method; nor is a wrong password taken."""
    url = stack.environment["PREFECT_API_URL"]
    with prefect_api(stack) as api:
        known = paths(api)
    assert len(known) > 100
    answers = {}
    with httpx.Client(base_url=url) as stranger, httpx.Client(base_url=url, auth=("studio", "x")) as guesser:
        for path, methods in known.items():
            for method in methods:
                for who, client in (("stranger", stranger), ("guesser", guesser)):
                    answers[who, method, path] = client.request(method, path.replace("{", "").replace("}", ""))
    let_in = {path for (_, _, path), answer in answers.items() if answer.status_code != 401}
    assert let_in == OPEN_IN_PREFECT
    assert {answers["stranger", "get", path].text for path in OPEN_IN_PREFECT} <= {"true", '{"message":"OK"}'}


@pytest.mark.parametrize("path", ["/events/in", "/events/out", "/logs/out", "/task_runs/subscriptions/scheduled"])
def test_prefects_sockets_ask_for_the_password(stack: StackSettings, path: str) -> None:
    address = stack.environment["PREFECT_API_URL"].replace("http", "ws", 1) + path
    with connect(address, proxy=None, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": "studio:x"}))
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
    with pytest.raises(InvalidStatus, match="403"), connect(address, proxy=None):
        pass
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(address, proxy=None, subprotocols=["prefect"], origin="http://evil.example"),  # type: ignore[list-item,arg-type]
    ):
        pass


@pytest.mark.parametrize("headers", FOREIGN)
def test_foreign_names_and_pages_are_refused_even_with_the_password(
    stack: StackSettings, headers: dict[str, str]
) -> None:
    body = {"name": "foreign", "trigger": {"type": "event", "expect": ["x"], "posture": "Reactive"}, "actions": []}
    with prefect_api(stack) as api:
        assert api.post("/automations/", content=json.dumps(body), headers=headers).status_code == 403
        assert api.get("/automations/count", headers=headers).status_code == 403
        assert api.get(f"http://127.0.0.1:{stack.prefect_port}/", headers=headers).status_code == 403
        found = api.post("/automations/filter", json={}).json()
    assert "foreign" not in {automation["name"] for automation in found}
    with mlflow_api(stack) as api:
        assert api.post("/api/2.0/mlflow/experiments/create", json={"name": "f"}, headers=headers).status_code == 403
        assert api.get("/health", headers=headers).status_code == 403
    live = f"http://127.0.0.1:{stack.live_port}"
    assert httpx.get(f"{live}/models", headers=headers).status_code == 403
    assert httpx.post(f"{live}/predict/x", content=b"x", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "variables",
    [{"command": "id"}, {"env": {"A": "b"}}, {"env.A": "b"}, {"working_dir": "/"}, {"stream_output": False}],
)
def test_a_run_chooses_neither_command_nor_environment(stack: StackSettings, variables: dict[str, Any]) -> None:
    """Nor does a deployment, an automation, or a deployment that is changed."""
    with prefect_api(stack) as api:
        found = api.get("/deployments/name/validate-dataset/gpu").raise_for_status().json()
        deployment = f"/deployments/{found['id']}"
        new = {"name": "mine", "flow_id": found["flow_id"], "work_pool_name": "gpu", "job_variables": variables}
        action = {
            "type": "run-deployment",
            "source": "selected",
            "deployment_id": found["id"],
            "job_variables": variables,
        }
        trigger = {"type": "event", "expect": ["x"], "posture": "Reactive", "threshold": 1, "within": 0}
        automation = {"name": "mine", "trigger": trigger, "actions": [action]}
        run = {"parameters": {"archive": "a.zip"}, "job_variables": variables}
        answers = [
            api.post(f"{deployment}/create_flow_run", json=run),
            api.post("/deployments/", json=new),
            api.post("/automations/", json=automation),
        ]
        api.patch(deployment, json={"job_variables": variables})  # Prefect looks at these when a run is made
        answers.append(api.post(f"{deployment}/create_flow_run", json={"parameters": run["parameters"]}))
        api.patch(deployment, json={"job_variables": {}}).raise_for_status()
    assert [answer.status_code for answer in answers] == [422] * 4, [answer.text for answer in answers]
    assert all("unexpected" in answer.text for answer in answers)


def test_variables_that_slipped_in_have_no_effect() -> None:
    """Prefect does not look at those of a run that is made without its deployment's own address."""
    variables = {"command": "id", "env": {"A": "b"}, "env.A": "b", "working_dir": "/", "stream_output": False}
    made: Any = ProcessJobConfiguration.from_template_and_values
    configuration = asyncio.run(made(bootstrap.job_template(), variables))
    assert configuration == asyncio.run(made(bootstrap.job_template(), {}))
    assert (configuration.command, configuration.env) == (None, {})


def test_a_pool_of_an_earlier_release_is_closed(stack: StackSettings) -> None:  # noqa: ARG001
    with get_client(sync_client=True) as client:
        former = ProcessWorker.get_default_base_job_template()
        client.update_work_pool("gpu", WorkPoolUpdate(base_job_template=former))
        bootstrap.ensure_work_pool()
        now = client.read_work_pool("gpu").base_job_template
    assert now == bootstrap.job_template()
    assert not {"command", "env", "working_dir", "stream_output"} & {*now["job_configuration"]}


@pytest.mark.slow
def test_a_worker_of_anybody_sends_heartbeats(tmp_path: Path) -> None:
    """A worker that is started in the checkout, with no setting at all, hands the period of 30 s on to its runs."""
    code = (
        "import os; from prefect.settings import get_current_settings as now;"
        "print(now().to_environment_variables(exclude_unset=True)['PREFECT_FLOWS_HEARTBEAT_FREQUENCY'])"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTEST"))}
    environment = bare | {"PREFECT_HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "30"


def test_passwords_stand_in_no_command_line(stack: StackSettings) -> None:
    supervisor = supervisord.process(stack)
    assert supervisor is not None
    lines = " ".join(" ".join(each.cmdline()) for each in [supervisor, *supervisor.children(recursive=True)])
    assert "infra.prefect_door" in lines
    for name in ("prefect", "mlflow", "mlflow_forms", "postgres"):
        assert stack.secrets[name] not in lines
    for name in ("mlflow-users.ini", "supervisord.conf"):
        assert (stack.state_dir / name).stat().st_mode & 0o077 == 0


def test_mlflow_answers_nothing_without_the_password(stack: StackSettings) -> None:
    """Every route that its application has; health alone is open."""
    with warnings.catch_warnings(action="ignore"):  # SQLAlchemy's, of MLflow
        from mlflow.server import app

    known = {rule.rule for rule in app.url_map.iter_rules()} - {"/health"}
    more = {
        "/signup",
        "/api/3.0/mlflow/server-info",
        "/ajax-api/3.0/mlflow/assistant/config",
        "/v1/traces",
        "/gateway/x",
    }
    with httpx.Client(base_url=stack.environment["MLFLOW_TRACKING_URI"]) as stranger:
        answers = {
            path: stranger.request(method, path.replace("<", "").replace(">", "")).status_code
            for path in known | more
            for method in ("GET", "POST", "PATCH", "DELETE")
        }
        assert stranger.get("/health").status_code == 200
    assert len(answers) > 200
    assert {path: status for path, status in answers.items() if status != 401} == {}
    with httpx.Client(base_url=stack.environment["MLFLOW_TRACKING_URI"], auth=("studio", "x")) as guesser:
        for path in ("/", "/signup", "/api/2.0/mlflow/experiments/search?max_results=1", "/graphql"):
            assert guesser.get(path).status_code == 401
        assert guesser.post("/api/2.0/mlflow/users/create", json={"username": "a", "password": "b" * 12}).is_error


@pytest.mark.parametrize(
    "authorization",
    ["", "Basic", "Basic !", "Basic /w==", "Basic c3R1ZGlv", "Basic AGE6Yg==", "Bearer x", 'Digest username="studio"'],
)
def test_what_is_no_password_is_refused_as_none(stack: StackSettings, authorization: str) -> None:
    """MLflow answered 500 to these, each with a traceback in its log."""
    for path in ("/", "/api/2.0/mlflow/experiments/search", "/api/3.0/mlflow/server-info"):
        answer = httpx.get(stack.environment["MLFLOW_TRACKING_URI"] + path, headers={"Authorization": authorization})
        assert answer.status_code == 401, answer.text


@pytest.mark.parametrize(
    "place", ["file:///etc", "/etc", "s3://runs/x", "http://127.0.0.1:4200", "mlflow-artifacts://x/y"]
)
def test_mlflow_refuses_artifacts_elsewhere(stack: StackSettings, place: str, tmp_path: Path) -> None:
    client = MlflowClient()
    experiment = client.create_experiment(f"home {place}")
    run = client.create_run(experiment).info.run_id
    name = f"elsewhere{abs(hash(place))}"
    client.create_registered_model(name)
    logged = {"experiment_id": experiment, "name": "x", "artifact_location": place}
    tags = [{"key": "mlflow.artifactLocation", "value": place}]
    trace = {"experiment_id": experiment, "timestamp_ms": 1, "execution_time_ms": 1, "status": "OK", "tags": tags}
    with mlflow_api(stack) as api:
        for prefix in ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow"):
            for field in ("artifact_location", "artifactLocation"):
                answer = api.post(f"{prefix}/experiments/create", json={"name": f"{place} {field}", field: place})
                assert answer.status_code == 400, answer.text
            version = {"name": name, "source": place, "run_id": run}
            assert api.post(f"{prefix}/model-versions/create", json=version).status_code == 400
            assert api.post(f"{prefix}/model-versions/create", json=version | {"run_id": ""}).status_code == 400
        made = api.post("/api/2.0/mlflow/logged-models", json=logged)
        if made.is_success:  # MLflow does not take a place from there
            assert made.json()["model"]["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
        traced = api.post("/api/2.0/mlflow/traces", json=trace)
        if traced.is_success:
            identity = traced.json()["trace_info"]["request_id"]
            read = api.get("/ajax-api/2.0/mlflow/get-trace-artifact", params={"request_id": identity})
            assert read.is_error, read.text
    assert client.search_model_versions(f"name = '{name}'") == []
    (tmp_path / "a.txt").write_text("a")
    client.log_artifact(run, str(tmp_path / "a.txt"))
    assert Path(client.download_artifacts(run, "a.txt", str(tmp_path))).read_text() == "a"


def test_an_experiment_lies_in_no_place_of_another(stack: StackSettings) -> None:
    """Whoever may make one would write among the files of others."""
    given = {"name": "beside another", "artifact_location": "mlflow-artifacts:/0/x/artifacts"}
    with mlflow_api(stack) as api:
        answer = api.post("/api/2.0/mlflow/experiments/create", json=given)
    assert answer.status_code == 400
    assert "Expected the place that MLflow gives an experiment, found" in answer.json()["message"]


@pytest.mark.parametrize("place", ["file:///etc", "/etc", "s3://runs", "s3://mlflow-not"])
def test_a_place_of_an_earlier_release_is_not_opened(stack: StackSettings, place: str) -> None:
    run = MlflowClient().create_run("0").info.run_id
    connection = psycopg2.connect(f"{stack.database_url}/mlflow")
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute("UPDATE runs SET artifact_uri = %s WHERE run_uuid = %s", (place, run))
    with mlflow_api(stack) as api:
        answers = [
            api.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run}),
            api.get("/get-artifact", params={"run_id": run, "path": "hostname"}),
            api.post("/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run, "path": "x"}, content=b"x"),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert "Expected mlflow-artifacts:/" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/gateway/x",
        "/ajax-api/3.0/mlflow/gateway/secrets/create",
        "/ajax-api/2.0/mlflow/gateway-proxy",
        "/ajax-api/2.0/mlflow/runs/create-promptlab-run",
        "/ajax-api/3.0/mlflow/assistant/message",
        "/api/2.0/mlflow/webhooks",
    ],
)
def test_parts_of_mlflow_that_reach_further_are_closed(stack: StackSettings, path: str) -> None:
    with mlflow_api(stack) as api:
        assert api.post(path, json={}).status_code == 403


def test_the_environment_file_is_enough_for_the_tools_of_anybody(stack: StackSettings) -> None:
    script = (
        'set -ae; . "$1"; curl -fsS -u "$PREFECT_API_AUTH_STRING" "$PREFECT_API_URL/deployments/name/train-model/gpu";'
        'curl -fsS -u "$MLFLOW_TRACKING_USERNAME:$MLFLOW_TRACKING_PASSWORD"'
        ' "$MLFLOW_TRACKING_URI/api/2.0/mlflow/users/current"'
    )
    command = ["bash", "-c", script, "-", str(stack.state_dir / "env")]
    said = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True).stdout
    assert '"train' in said
    assert '"is_admin":true' in said


def test_passwords_of_ours_go_to_no_server_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.com/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    environment = StackSettings.load().environment
    assert not {"PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} & environment.keys()


@pytest.mark.parametrize(
    ("address", "elsewhere", "key"),
    [
        ("PREFECT_API_URL", "https://prefect.example.com/api", "PREFECT_API_AUTH_STRING"),
        ("MLFLOW_TRACKING_URI", "https://mlflow.example.com", "MLFLOW_TRACKING_PASSWORD"),
        ("AWS_ENDPOINT_URL", "https://s3.example.com", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_keys_of_a_stack_that_runs_are_for_its_own_services(
    monkeypatch: pytest.MonkeyPatch, stack: StackSettings, address: str, elsewhere: str, key: str
) -> None:
    here = stack.local_environment
    for named, expected in ((elsewhere, None), (here[address].replace("127.0.0.1", "localhost"), here[key])):
        monkeypatch.delenv(key, raising=False)
        monkeypatch.setenv(address, named)
        load_settings()
        assert os.environ.get(key) == expected


def test_secrets_that_an_earlier_release_lacked_are_added(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"postgres": "kept"}')
    found = StackSettings(state_dir=tmp_path).secrets
    assert found["postgres"] == "kept"
    assert len(found["prefect"]) == 32
    assert StackSettings(state_dir=tmp_path).secrets == found


def test_what_is_open_on_purpose_says_little_and_no_page_reads_it(stack: StackSettings) -> None:
    """Triton answers everybody, and its counts too; a browser shows no page what it answered, for there is no CORS."""
    page = {"Origin": "http://evil.example"}
    triton = f"http://{stack.environment['TRITON_HTTP_URL']}"
    for url in (f"{triton}/v2/models/predict/config", f"http://127.0.0.1:{stack.triton_metrics_port}/metrics"):
        answer = httpx.get(url, headers=page)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked = httpx.options(f"{triton}/v2/models/predict/infer", headers=page | {"Access-Control-Request-Method": "POST"})
    assert not [name for name in asked.headers if name.startswith("access-control-")]

    worker = httpx.get(f"http://127.0.0.1:{stack.worker_port}/health")
    assert (worker.status_code, len(worker.text) < 50) == (200, True), worker.text
    for auth in (None, ("studio", "x")):
        for path in ("", "RPC2", "logtail/prefect"):
            assert httpx.get(f"http://127.0.0.1:{stack.supervisor_port}/{path}", auth=auth).status_code == 401

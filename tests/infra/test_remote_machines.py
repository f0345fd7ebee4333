"""Workers and Tritons on other machines: what each is told, and that with this alone it works."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from dotenv import dotenv_values
from typer.testing import CliRunner

from infra.accounts.audit import Actor, AuditChoice, list_entries
from infra.accounts.bootstrap import STACK_OWNER, open_accounts
from infra.accounts.database import Database
from infra.accounts.people import add_account, find_account, set_disabled
from infra.accounts.roles import UserRole
from infra.accounts.tokens import find_token, make_token
from infra.demo_data import ArchivePlan, write_archive
from infra.environment import worker_environment
from infra.front_door import program
from infra.metrics.worker_token_source import WorkerTokenSource
from infra.person_keys import read_keys
from infra.services import s3_client
from infra.stack_settings import ROOT, StackSettings
from studio.cli import app
from tasks.errors import StudioError
from tasks.orchestration.starters import is_starter_tag
from tasks.storage.object_names import Bucket
from tests.clients import mlflow_api, pause_schedules, prefect_api
from tests.infra.another_user import another_user, hand_over
from tests.infra.public import Public, run_public
from tests.stack_environment import free_block
from tests.waiting import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PLAN = ArchivePlan(name="elsewhere.zip", classes=("circle", "square"), train=12, val=6, seed=3)
TRAINING = {"epochs": 1, "imgsz": 64, "batch": 8, "rehearse": False}


def told(name: str, *options: str) -> dict[str, str | None]:
    done = CliRunner().invoke(app, ["worker-env", name, *options])
    if done.exception:
        raise done.exception
    return dotenv_values(stream=StringIO(done.stdout))


@pytest.mark.usefixtures("_stack_with_accounts")
def test_a_machine_is_told_its_own_keys_and_no_password_of_a_service(
    accounts_settings: StackSettings, database: Database
) -> None:
    found = told("gpu-7", "--days", "7", "--certificates", "/etc/x.pem")
    token = str(found["MLFLOW_TRACKING_PASSWORD"])
    assert found["PREFECT_API_AUTH_STRING"] == f"gpu-7:{token}"
    owner = find_token(database, token)
    assert owner
    assert (owner.name, owner.role) == ("gpu-7", UserRole.WORKER)
    key = read_keys(accounts_settings)["gpu-7"]
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == (key.key, key.secret)
    assert found["PREFECT_API_URL"] == "https://studio.example.org:8443/prefect/api"
    assert found["AWS_ENDPOINT_URL"] == "https://studio.example.org:8444"
    assert {found[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")} == {"/etc/x.pem"}
    links = read_keys(accounts_settings)["links/gpu-7"]
    assert (found["STUDIO_LINKS_ACCESS_KEY_ID"], found["STUDIO_LINKS_SECRET_ACCESS_KEY"]) == (links.key, links.secret)
    assert not [name for name, secret in accounts_settings.secrets.items() if secret in str(found.values())]


@pytest.mark.usefixtures("_stack_with_accounts")
def test_told_again_what_it_was_told_before_opens_nothing(accounts_settings: StackSettings, database: Database) -> None:
    first, second = told("gpu-7"), told("gpu-7")
    assert find_token(database, str(first["MLFLOW_TRACKING_PASSWORD"])) is None
    assert find_token(database, str(second["MLFLOW_TRACKING_PASSWORD"]))
    assert read_keys(accounts_settings)["gpu-7"].key == second["AWS_ACCESS_KEY_ID"]
    assert read_keys(accounts_settings)["links/gpu-7"].key == second["STUDIO_LINKS_ACCESS_KEY_ID"]


@pytest.mark.usefixtures("_stack_with_accounts")
def test_the_audit_log_has_who_made_the_keys_of_a_machine(database: Database) -> None:
    told("gpu-7")
    told("gpu-7")
    entries = list_entries(database, AuditChoice(name=STACK_OWNER.name), before=None, limit=10)
    assert [(entry.action, entry.detail) for entry in reversed(entries)] == [
        ("account-added", "gpu-7 as worker"),
        ("token-made", "of gpu-7: worker-env as worker for 90 days"),
        ("token-revoked", "of gpu-7: worker-env"),
        ("token-made", "of gpu-7: worker-env as worker for 90 days"),
    ]
    assert not list_entries(database, AuditChoice(name="gpu-7"), before=None, limit=10)


@pytest.mark.usefixtures("_stack_with_accounts")
def test_a_token_of_a_machine_is_told_two_weeks_before_it_ends(database: Database) -> None:
    for name, days in (("gpu-6", "13"), ("gpu-7", "15"), ("gpu-8", "1")):
        told(name, "--days", days)
    set_disabled(database, "gpu-8", STACK_OWNER, disabled=True)
    shown = CliRunner().invoke(app, ["status", "--json"]).stdout
    assert json.loads(shown)["ending_worker_tokens"].keys() == {"gpu-6"}
    assert "token of worker gpu-6: until 20" in CliRunner().invoke(app, ["status"]).stdout
    (metric,) = WorkerTokenSource(database).read()
    ends = {sample.labels["machine"]: (sample.value - time.time()) / 86400 for sample in metric.samples}
    assert ends == {"gpu-6": pytest.approx(13, abs=0.1), "gpu-7": pytest.approx(15, abs=0.1)}


@pytest.mark.usefixtures("_stack_with_accounts")
def test_a_certificate_of_a_public_authority_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_PUBLIC_TLS", "acme")
    assert "SSL_CERT_FILE" not in told("gpu-7")


@pytest.mark.usefixtures("_stack_with_accounts")
def test_a_person_becomes_no_worker_and_one_that_is_shut_out_stays_so(database: Database) -> None:
    with pytest.raises(StudioError, match="found 'boss', who is admin"):
        told("boss")
    told("gpu-7")
    set_disabled(database, "gpu-7", STACK_OWNER, disabled=True)
    with pytest.raises(StudioError, match="found 'gpu-7', who is disabled"):
        told("gpu-7")
    assert find_account(database, "gpu-7")


@pytest.mark.usefixtures("_stack_with_accounts")
def test_a_machine_that_reaches_a_triton_is_told_where_and_its_key(accounts_settings: StackSettings) -> None:
    found = told("gpu-7", "--triton", "127.0.0.1:18001/127.0.0.1:18000")
    assert (found["TRITON_GRPC_URL"], found["TRITON_HTTP_URL"]) == ("127.0.0.1:18001", "127.0.0.1:18000")
    assert found["STUDIO_TRITON_KEY"] == accounts_settings.secrets["triton_key"]
    assert not [name for name in told("gpu-7") if "TRITON" in name]


@pytest.mark.parametrize("target", ["gpu-1", "a:1/a:2,b:1/b:2", "dns:a:1/a:2", "a:1/a:x"])
def test_what_is_not_one_triton_is_a_wrong_argument(target: str) -> None:
    refused = CliRunner().invoke(app, ["triton-env", "gpu-8", target])
    assert (refused.exit_code, "expected" in refused.stderr.lower()) == (2, True)


def test_a_triton_serves_the_models_of_the_stack_with_nothing_but_its_file(
    stack: StackSettings, tmp_path: Path
) -> None:
    first = free_block(3)
    where = f"127.0.0.1:{first + 1}/127.0.0.1:{first}"
    store = stack.environment["AWS_ENDPOINT_URL"]
    printing = [sys.executable, "-m", "studio", "triton-env", "gpu-8", where, "--store", store]
    printed = subprocess.run(printing, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    (tmp_path / "triton.env").write_text(printed)
    assert [name for name, secret in stack.secrets.items() if secret in printed] == ["triton_key"]
    line = f"set -a; . {tmp_path}/triton.env; exec {sys.executable} -m infra.triton"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "STUDIO_STATE_DIR": str(tmp_path / "state")}
    environment["STUDIO_TRITON_METRICS_PORT"] = str(first + 2)
    with (tmp_path / "log").open("w") as log:
        server = psutil.Popen(["/bin/bash", "-c", line], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:

        def is_ready() -> bool:
            assert server.is_running(), (tmp_path / "log").read_text()[-4000:]
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{first}/v2/models/predict/ready").status_code == 200
            return False

        eventually(is_ready, "a Triton that serves predict", 60, every_s=0.5)
    finally:
        server.terminate()
        server.wait(30)
    client = _store(dotenv_values(tmp_path / "triton.env"), "AWS")
    assert not _is_shut(client, Bucket.MODELS)
    assert _is_shut(client, Bucket.RUNS)
    assert CliRunner().invoke(app, ["triton-env", "gpu-8", "--take"]).exit_code == 0
    eventually(lambda: _is_shut(client, Bucket.MODELS), "a taken key that opens nothing", 10)


@pytest.fixture(scope="module")
def public() -> Iterator[Public]:
    """A stack without a worker and without Triton; Prefect knows the pool and the deployments."""
    with run_public(with_accounts=True, name="localhost") as running:
        environment = dict(os.environ) | worker_environment(running.settings)
        subprocess.run([sys.executable, "-m", "studio", "init", "prefect"], check=True, env=environment, cwd=ROOT)
        pause_schedules(running.settings)
        (running.settings.state_dir / "env").touch()  # as `studio up` leaves it, by which it is known for a stack
        yield running


@pytest.fixture
def elsewhere(public: Public, tmp_path: Path) -> Iterator[dict[str, str | None]]:
    """A worker with nothing but the file of `studio worker-env`, in another folder, and as another user if possible."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    certificates = home / "certificates.pem"
    certificates.write_text(Path(public.root).read_text())
    printing = [sys.executable, "-m", "studio", "worker-env", "gpu-7", "--certificates", str(certificates)]
    known = {name: value for name, value in os.environ.items() if "LIVE_LOG" not in name}  # that stack has none
    printed = subprocess.run(printing, check=False, capture_output=True, text=True, cwd=ROOT, env=known)
    assert printed.returncode == 0, printed.stderr
    (home / "worker.env").write_text(printed.stdout)
    hand_over(home, *home.iterdir())
    line = f"set -a; . {home}/worker.env; exec {sys.executable} -m studio worker --queue checks --queue training"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "STUDIO_STATE_DIR": str(home / "state")}
    with (home / "log").open("w") as log:
        worker = psutil.Popen(
            ["/bin/bash", "-c", line], cwd=ROOT, env=environment, stdout=log, stderr=log, **another_user()
        )
    try:
        yield dotenv_values(home / "worker.env")
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(40)
        except psutil.TimeoutExpired:
            for process in [*worker.children(recursive=True), worker]:
                process.kill()
        print((home / "log").read_text()[-8000:])


def ended(public: Public, run: str, seconds: float) -> dict[str, Any]:
    """The run, once it has ended."""

    def found() -> dict[str, Any]:
        with prefect_api(public.settings) as api:
            asked: dict[str, Any] = api.get(f"/flow_runs/{run}").raise_for_status().json()
        return asked if asked["state"]["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else {}

    return eventually(found, f"an end of run {run}", seconds, every_s=1)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed")
def test_it_checks_and_trains_through_the_front_door_until_it_is_shut_out(
    public: Public, elsewhere: dict[str, str | None], tmp_path: Path
) -> None:
    settings = public.settings
    s3_client(settings).upload_file(str(write_archive(PLAN, tmp_path)), "datasets", PLAN.name)
    with open_accounts(settings) as database:
        # What is started by hand goes into queue `interactive`, which no worker elsewhere takes, but for admins.
        of_queue = {"parameters": {"archive": PLAN.name}, "work_queue_name": "checks"}
        check = _start(public, database, "ada", UserRole.ADMIN, "validate-dataset", of_queue)
        state = ended(public, check, 180)["state"]
        assert state["type"] == "COMPLETED", state
        parameters = {"model_name": "far", "archives": [PLAN.name], "base_model": "yolo11n.yaml", "training": TRAINING}
        training = _start(public, database, "otto", UserRole.OPERATOR, "train-model", {"parameters": parameters})
        _starts_runs_for_whom_it_works(public, elsewhere, training)
        state = ended(public, training, 420)["state"]
        assert state["type"] == "COMPLETED", state
        refused = list_entries(database, AuditChoice(name="gpu-7", allowed=False), before=None, limit=9)
        assert refused == []  # neither a state, nor an event, nor a key that the worker and its runs need
        _decides_nothing(public, elsewhere, training)
        _is_ottos(settings, training)
        link = _link(public, elsewhere, f"{check}/report.html")
        assert _status(public, link) == 200
        set_disabled(database, "gpu-7", STACK_OWNER, disabled=True)
    _opens_nothing(public, elsewhere, link)


def _start(
    public: Public,
    database: Database,
    name: str,
    role: UserRole,
    flow: str,
    asked: Mapping[str, object],
) -> str:
    """The run that a new person starts from outside."""
    add_account(database, name, role, STACK_OWNER)
    with public.client() as client:
        client.auth = (name, make_token(database, Actor(name=name), "test", role, 1))
        deployment = client.get(f"/prefect/api/deployments/name/{flow}/gpu").raise_for_status().json()["id"]
        made = client.post(f"/prefect/api/deployments/{deployment}/create_flow_run", json=asked)
        return str(made.raise_for_status().json()["id"])


def _as_machine(public: Public, told: dict[str, str | None]) -> httpx.Client:
    """Whoever has its file."""
    client = public.client()
    client.auth = (str(told["MLFLOW_TRACKING_USERNAME"]), str(told["MLFLOW_TRACKING_PASSWORD"]))
    return client


def _started(machine: httpx.Client, *tags: str) -> httpx.Response:
    """The answer to a run that it starts, of a queue of which nobody takes any here."""
    deployment = machine.get("/prefect/api/deployments/name/validate-dataset/gpu").raise_for_status().json()["id"]
    asked = {"parameters": {"archive": PLAN.name}, "tags": ["started-by:boss", "role:admin", *tags]}
    return machine.post(f"/prefect/api/deployments/{deployment}/create_flow_run", json=asked)


def _starts_runs_for_whom_it_works(public: Public, told: dict[str, str | None], training: str) -> None:
    def is_at_work() -> bool:
        with prefect_api(public.settings) as api:
            return bool(api.get(f"/flow_runs/{training}").json()["state_type"] == "RUNNING")

    eventually(is_at_work, "a training at work", 120, every_s=0.5)
    with _as_machine(public, told) as machine:
        of_training, of_nothing = _started(machine, f"pipeline:{training}"), _started(machine)
    named = [{*filter(is_starter_tag, answer.json()["tags"])} for answer in (of_training, of_nothing)]
    assert named == [{"started-by:otto", "role:operator"}, {"started-by:?", "role:?"}]


def _decides_nothing(public: Public, told: dict[str, str | None], training: str) -> None:
    with _as_machine(public, told) as machine:
        assert "that is RUNNING; found COMPLETED" in _started(machine, f"pipeline:{training}").json()["error"]
        champion = {"name": "far", "alias": "champion", "version": "1"}
        for path, body in (
            (f"/prefect/api/flow_runs/{training}/resume", {}),
            ("/mlflow/api/2.0/mlflow/registered-models/alias", champion),
            ("/mlflow/api/2.0/mlflow/registered-models/set-tag", {"name": "far", "key": "studio.owner", "value": "x"}),
            ("/start/undeploy-model", {}),
        ):
            assert machine.post(path, json=body).status_code == 403, path
    store = _store(told, "AWS", public.root)
    for bucket in (Bucket.MODELS, Bucket.MLFLOW, Bucket.BASE_MODELS, Bucket.MEDIA):
        with pytest.raises(ClientError, match="AccessDenied"):
            store.put_object(Bucket=bucket, Key="x", Body=b"x")


def _is_ottos(settings: StackSettings, training: str) -> None:
    """The run, its log and its version are there, and are his for whom the worker worked."""
    with prefect_api(settings) as api:
        assert {"started-by:otto", "role:operator"} <= {*api.get(f"/flow_runs/{training}").json()["tags"]}
        asked = {"logs": {"flow_run_id": {"any_": [training]}}, "limit": 100}
        assert len(api.post("/logs/filter", json=asked).json()) > 5
    with mlflow_api(settings) as api:
        versions = api.get("/api/2.0/mlflow/model-versions/search", params={"filter": "name='far'"}).json()[
            "model_versions"
        ]
        assert [each["version"] for each in versions] == ["1"]
        run = api.get("/api/2.0/mlflow/runs/get", params={"run_id": versions[0]["run_id"]}).json()["run"]
        assert {"key": "mlflow.user", "value": "otto"} in run["data"]["tags"]


def _store(told: dict[str, str | None], prefix: str, certificates: str | None = None) -> "S3Client":
    """The object store as a file of variables names it, with one of the keys there."""
    return boto3.client(
        "s3",
        endpoint_url=told["AWS_ENDPOINT_URL"],
        aws_access_key_id=told[f"{prefix}_ACCESS_KEY_ID"],
        aws_secret_access_key=told[f"{prefix}_SECRET_ACCESS_KEY"],
        region_name=told["AWS_DEFAULT_REGION"],
        verify=certificates,
        config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4"),
    )


def _link(public: Public, told: dict[str, str | None], key: str) -> str:
    """A link to an object of bucket runs, as its runs sign them."""
    wanted = {"Bucket": Bucket.RUNS, "Key": key}
    return _store(told, "STUDIO_LINKS", public.root).generate_presigned_url("get_object", Params=wanted)


def _status(public: Public, address: str, auth: tuple[str, str] | None = None) -> int:
    context = ssl.create_default_context(cafile=public.root)
    return httpx.get(address, auth=auth, verify=context, trust_env=False).status_code


def _opens_nothing(public: Public, told: dict[str, str | None], link: str) -> None:
    known = {name: str(value) for name, value in told.items()}
    auth = (known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"])
    for address in (f"{known['PREFECT_API_URL']}/admin/version", f"{known['MLFLOW_TRACKING_URI']}/version"):
        assert _status(public, address, auth) == 401
    stores = [_store(told, prefix, public.root) for prefix in ("AWS", "STUDIO_LINKS")]

    def are_shut() -> bool:
        return all(map(_is_shut, stores)) and _status(public, link) == 403

    eventually(are_shut, "keys of the object store that open nothing", 30, every_s=1)
    assert _status(public, _link(public, told, "any")) == 403


def _is_shut(store: "S3Client", bucket: Bucket = Bucket.RUNS) -> bool:
    try:
        store.get_object(Bucket=bucket, Key="any")
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return False

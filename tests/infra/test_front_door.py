"""The front door from outside, with real services behind it: Caddy, Prefect, MLflow and SeaweedFS (`make proof`).

The front page is a stand-in that knows four people (`tests/infra/public.py`).
"""

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from websockets.exceptions import ConnectionClosed, InvalidStatus

from infra import supervisord
from infra.accounts.cookies import SESSION
from infra.accounts.roles import UserRole
from infra.front_door import program
from infra.identities import Role
from infra.person_keys import Taken, follow_accounts, give_key, take_key
from tests.infra.browser import OpenBrowser
from tests.infra.public import NAME, Public, auth_of, key_of, open_socket, run_public
from tests.waiting import eventually

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed"),
]


@pytest.fixture(scope="module")
def public() -> Iterator[Public]:
    with run_public() as running:
        yield running


@pytest.fixture(scope="module")
def deployment(public: Public) -> str:
    """A deployment of Prefect that no worker looks at, made by an admin from outside."""
    with public.client("ada") as ada:
        flow = ada.post("/prefect/api/flows/", json={"name": "train"}).raise_for_status().json()["id"]
        body = {"name": "gpu", "flow_id": flow, "tags": ["deployed"], "enforce_parameter_schema": False}
        return str(ada.post("/prefect/api/deployments/", json=body).raise_for_status().json()["id"])


READING = [
    ("POST", "/prefect/api/flow_runs/filter", {}),
    ("GET", "/prefect/api/admin/version", None),
    ("POST", "/mlflow/api/2.0/mlflow/experiments/search", {"max_results": 5}),
    ("GET", "/datasets", None),
]
ACTING = [
    ("POST", "/prefect/api/variables/", {"name": "v", "value": 1}),
    ("POST", "/mlflow/api/2.0/mlflow/registered-models/create", {"name": "made"}),
]


@pytest.mark.parametrize(("method", "path", "body"), [*READING, *ACTING])
def test_without_a_right_key_every_door_is_closed(public: Public, method: str, path: str, body: object) -> None:
    """No key, a wrong one, somebody else's, the services' own passwords, and forged headers of the front door."""
    secrets = public.settings.secrets
    with public.client() as stranger:
        keys: list[Any] = [
            None,
            ("ada", "wrong"),
            ("ada", key_of("otto")),
            ("studio", secrets["prefect"]),
            ("studio", secrets["mlflow"]),
            ("studio", secrets["front_page"]),
        ]
        for key in keys:
            assert stranger.request(method, path, json=body, auth=key).status_code == 401, key
        forged = {"X-Studio-User": "ada", "X-Studio-Role": "admin", "X-Forwarded-User": "ada"}
        for door in ("", "x", secrets["front_door"]):
            headers = forged | {"X-Studio-Door": door}
            assert stranger.request(method, path, json=body, headers=headers).status_code == 401


@pytest.mark.parametrize("name", ["vera", "otto", "ada"])
@pytest.mark.parametrize(("method", "path", "body"), READING)
def test_whoever_has_signed_in_reads_every_part(
    public: Public, name: str, method: str, path: str, body: object
) -> None:
    with public.client(name) as person:
        assert person.request(method, path, json=body).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), ACTING)
def test_what_is_for_admins_is_closed_to_everybody_else(public: Public, method: str, path: str, body: object) -> None:
    for name in ("vera", "otto"):
        with public.client(name) as person:
            assert person.request(method, path, json=body).status_code == 403
    with public.client("ada") as ada:
        assert ada.request(method, path, json=body).is_success


def test_headers_of_the_front_door_are_its_own_whatever_a_client_sends(public: Public) -> None:
    sent = {
        "X-Studio-User": "ada",
        "X-Studio-Role": "admin",
        "X-Studio-Door": "x",
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Uri": "/sign-in",
        "X-Forwarded-Method": "GET",
        "X-Request-Id": "mine",
    }
    with public.client("vera") as vera:
        answer = vera.get("/shown", headers=sent)
        seen = answer.json()["headers"]
        assert answer.json()["secret"]
        assert (seen["x-studio-user"], seen["x-studio-role"]) == ("vera", "viewer")
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-forwarded-host"] == urlsplit(public.url).netloc
        assert seen["x-request-id"] == answer.headers["x-request-id"] != "mine"
        assert seen["host"] == f"127.0.0.1:{public.settings.live_port}"
        assert vera.post("/mlflow/api/2.0/mlflow/experiments/search?x=1", json={"max_results": 1}).status_code == 200
    assert public.asked[-1]["x-forwarded-uri"] == "/mlflow/api/2.0/mlflow/experiments/search?x=1"
    assert public.asked[-1]["x-forwarded-method"] == "POST"
    asked = public.asked[-2]
    assert (asked["x-forwarded-uri"], asked["x-forwarded-method"]) == ("/shown", "GET")


def test_the_question_of_the_front_door_cannot_be_asked_from_outside(public: Public) -> None:
    with public.client("ada") as ada:
        assert ada.get("/auth/check").status_code == 404


def test_a_path_is_written_in_one_way(public: Public) -> None:
    """What the front page is asked about is what the service gets: else a role would be asked for another part."""
    with public.client("vera") as vera:
        for path in ("/PREFECT/api/admin/version", "/Mlflow/version", "/AUTH/check"):
            assert vera.get(path).status_code == 404
        hidden = "/ajax-api/2.0/mlflow/users/list"
        for path in (
            *("/x/../prefect/api/admin/settings", "/%70refect/api/admin/settings", "//prefect/api/admin/settings"),
            *(
                f"/mlflow{hidden}",
                f"/%6dlflow{hidden}",
                f"//mlflow{hidden}",
                f"/mlflow/{hidden}",
                f"/mlflow/x/..{hidden}",
            ),
        ):
            assert not vera.get(f"{public.url}{path}").is_success, path
            assert vera.post(f"{public.url}{path}", json={}).status_code in {400, 403, 404, 405}, path


def test_a_page_of_another_site_acts_for_nobody(public: Public, deployment: str) -> None:
    cookie = {"Cookie": f"{SESSION}=session-of-ada"}
    path = f"/prefect/api/deployments/{deployment}/create_flow_run"
    with public.client() as browser:
        for origin, status in ((public.url, 201), ("https://evil.example", 403), ("null", 403)):
            assert browser.post(path, json={}, headers=cookie | {"Origin": origin}).status_code == status
    address = f"wss://{NAME}:{public.settings.public_port}/prefect/api/events/out"
    with (
        pytest.raises(InvalidStatus, match="403"),
        open_socket(public, address, {"Origin": "https://evil.example", **cookie}),
    ):
        pass


def test_a_host_that_is_not_ours_gets_nothing(public: Public) -> None:
    with public.client("ada") as ada:
        answer = ada.get("/datasets", headers={"Host": "evil.example"})
        assert answer.status_code in {421, 403} or not answer.content


def test_a_browser_without_a_session_is_led_to_the_form(public: Public) -> None:
    with public.client() as browser:
        answer = browser.get("/prefect/runs", headers={"Sec-Fetch-Mode": "navigate"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/sign-in")


def test_answers_have_the_headers_that_keep_browsers_safe(public: Public) -> None:
    with public.client("vera") as vera:
        for path in ("/shown", "/prefect/", "/mlflow/"):
            headers = vera.get(path, follow_redirects=True).headers
            assert headers["strict-transport-security"] == "max-age=31536000"
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers


def test_prefects_page_is_there_and_asks_for_no_password(public: Public) -> None:
    with public.client("vera") as vera:
        page = vera.get("/prefect/", follow_redirects=True)
        assert page.status_code == 200
        script = page.text.partition('src="')[2].partition('"')[0]
        assert script.startswith("/prefect/")
        assert vera.get(script).status_code == 200
        settings = vera.get("/prefect/ui-settings").json()
    assert (settings["auth"], settings["api_url"]) == (None, "/prefect/api")


def test_prefect_still_answers_on_this_machine_with_its_password(public: Public) -> None:
    base = f"http://127.0.0.1:{public.settings.prefect_port}"
    known = ("studio", public.settings.secrets["prefect"])
    with httpx.Client(base_url=base, trust_env=False) as local:
        assert local.post("/api/flow_runs/filter", json={}, auth=known).status_code == 200
        assert local.post("/prefect/api/flow_runs/filter", json={}, auth=known).status_code == 200
        assert local.post("/api/flow_runs/filter", json={}).status_code == 401
        assert local.get("/ui-settings", follow_redirects=True).json()["auth"] == "BASIC"
        page = local.get("/runs?x=1")
        assert (page.status_code, page.headers["location"]) == (307, "/prefect/runs?x=1")


def test_mlflows_page_and_files_are_there(public: Public) -> None:
    with public.client("vera") as vera:
        page = vera.get("/mlflow/")
        script = page.text.partition('src="')[2].partition('"')[0]
        assert vera.get(f"/mlflow/{script}").status_code == 200
        assert vera.get("/mlflow", follow_redirects=False).headers["location"] == "/mlflow/"


def test_a_run_says_who_started_it_whatever_they_wrote(public: Public, deployment: str) -> None:
    path = f"/prefect/api/deployments/{deployment}/create_flow_run"
    with public.client("otto") as otto:
        body = {"tags": ["mine", "started-by:ada", "role:admin"], "state": {"type": "SCHEDULED"}}
        run = otto.post(path, json=body).raise_for_status().json()
        assert {"mine", "started-by:otto", "role:operator"} == set(run["tags"]) - {"deployed"}
        address = f"/prefect/api/flow_runs/{run['id']}"
        assert otto.patch(address, json={"tags": ["new", "started-by:ada"]}).status_code == 204
        assert set(otto.get(address).json()["tags"]) == {"new", "started-by:otto", "role:operator"}
    with public.client("olga") as olga:  # another operator changes its tags, not its starter
        assert olga.patch(address, json={"tags": []}).status_code == 204
        assert set(olga.get(address).json()["tags"]) == {"started-by:otto", "role:operator"}


@pytest.mark.parametrize(
    "body",
    [
        {"job_variables": {"command": "id"}},
        {"parent_task_run_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"},
        {"state": {"type": "COMPLETED"}},
        {"state": {"type": "SCHEDULED", "data": {"type": "x"}}},
        {"enforce_parameter_schema": False},
        {"parameters": {"x": [{"__prefect_kind": "workspace_variable", "variable_name": "v"}]}},
        {"infrastructure_document_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"},
    ],
)
def test_an_operator_starts_a_run_as_its_deployment_is(public: Public, deployment: str, body: dict[str, Any]) -> None:
    with public.client("otto") as otto:
        answer = otto.post(f"/prefect/api/deployments/{deployment}/create_flow_run", json=body)
    assert answer.status_code == 403
    assert "xpected" in answer.json()["error"]


def test_an_operator_cancels_a_run_and_decides_no_outcome(public: Public, deployment: str) -> None:
    with public.client("otto") as otto:
        run = otto.post(f"/prefect/api/deployments/{deployment}/create_flow_run", json={}).json()["id"]
        address = f"/prefect/api/flow_runs/{run}/set_state"
        assert otto.post(address, json={"state": {"type": "COMPLETED"}, "force": True}).status_code == 403
        assert otto.post(address, json={"state": {"type": "CANCELLED"}}).status_code == 201
    with public.client("vera") as vera:
        assert vera.post(address, json={"state": {"type": "SCHEDULED"}}).status_code == 403


def test_a_run_that_is_logged_to_mlflow_has_its_visitors_name(public: Public) -> None:
    base = "/mlflow/api/2.0/mlflow"
    with public.client("otto") as otto:
        body = {"experiment_id": "0", "user_id": "ada", "tags": [{"key": "mlflow.user", "value": "ada"}]}
        run = otto.post(f"{base}/runs/create", json=body).raise_for_status().json()["run"]
        assert {"key": "mlflow.user", "value": "otto"} in run["data"]["tags"]
        tag = {"run_id": run["info"]["run_id"], "key": "mlflow.user", "value": "ada"}
        assert otto.post(f"{base}/runs/set-tag", json=tag).status_code == 403
        note = tag | {"key": "mlflow.note.content"}
        assert otto.post(f"{base}/runs/set-tag", json=note).status_code == 200
        owner = {"name": "made", "key": "studio.owner", "value": "otto"}
        assert otto.post(f"{base}/registered-models/set-tag", json=owner).status_code == 403


def test_on_a_model_its_owner_writes_notes_and_nobody_what_flows_decide_by(public: Public) -> None:
    base = "/mlflow/api/2.0/mlflow"
    model, version = {"name": "ottos"}, {"name": "ottos", "version": "1"}
    with public.client("ada") as ada:
        tags = [{"key": "studio.owner", "value": "otto"}]
        ada.post(f"{base}/registered-models/create", json=model | {"tags": tags}).raise_for_status()
        run = ada.post(f"{base}/runs/create", json={"experiment_id": "0"}).raise_for_status().json()["run"]["info"]
        source = {"source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
        ada.post(f"{base}/model-versions/create", json=model | source).raise_for_status()
    changes = [
        ("POST", "registered-models/set-tag", model | {"key": "note.use", "value": "x"}),
        ("POST", "model-versions/set-tag", version | {"key": "mlflow.note.content", "value": "x"}),
        ("PATCH", "registered-models/update", model | {"description": "x"}),
        ("PATCH", "model-versions/update", version | {"description": "x"}),
    ]
    for name, status in (("vera", 403), ("olga", 403), ("otto", 200), ("ada", 200)):
        with public.client(name) as person:
            for method, path, body in changes:
                assert person.request(method, f"{base}/{path}", json=body).status_code == status, (name, path)
    decided = version | {"key": "class_names", "value": "[]"}
    with public.client("otto") as otto:
        assert otto.post(f"{base}/model-versions/set-tag", json=decided).status_code == 403
        nowhere = {"name": "nowhere", "key": "note.use", "value": "x"}
        assert otto.post(f"{base}/registered-models/set-tag", json=nowhere).status_code == 403


def test_a_socket_is_opened_by_the_handshake_or_by_its_first_message(public: Public) -> None:
    """Prefect's clients give their key in either; its page has the cookie, and says no password."""
    address = f"wss://{NAME}:{public.settings.public_port}/prefect/api/events/out"
    basic = {"Authorization": httpx.BasicAuth(*auth_of("vera"))._auth_header}
    cookie = {"Cookie": f"{SESSION}=session-of-vera", "Origin": public.url}
    for headers, token in ((basic, "x"), (cookie, None), ({}, f"vera:{key_of('vera')}")):
        with open_socket(public, address, headers) as opened:
            opened.send(json.dumps({"type": "auth", "token": token}))
            assert json.loads(opened.recv(10))["type"] == "auth_success"


def test_a_socket_is_closed_to_who_has_no_key_or_too_low_a_role(public: Public) -> None:
    base = f"wss://{NAME}:{public.settings.public_port}/prefect/api/events"
    own = f"studio:{public.settings.secrets['prefect']}"
    for path, token in (("out", "vera:x"), ("out", None), ("out", own), ("in", f"otto:{key_of('otto')}")):
        with open_socket(public, f"{base}/{path}") as opened:
            opened.send(json.dumps({"type": "auth", "token": token}))
            with pytest.raises(ConnectionClosed):
                opened.recv(10)
    otto = {"Authorization": httpx.BasicAuth(*auth_of("otto"))._auth_header}
    with pytest.raises(InvalidStatus, match="403"), open_socket(public, f"{base}/in", otto):
        pass
    with (
        pytest.raises(InvalidStatus),
        open_socket(public, f"{base.removesuffix('/events')}/task_runs/subscriptions/scheduled"),
    ):
        pass


def test_prefects_own_client_works_from_outside(public: Public, deployment: str, tmp_path: Path) -> None:
    """Its command, with the address, a key and our authority of certificates."""
    hosts = _outside(public, tmp_path, "import prefect.cli; prefect.cli.app()", ["deployment", "inspect", "train/gpu"])
    assert deployment in hosts


def test_mlflows_own_client_works_from_outside(public: Public, tmp_path: Path) -> None:
    code = "import mlflow; print(mlflow.MlflowClient().search_experiments()[0].name)"
    assert "Default" in _outside(public, tmp_path, code, [])


def _outside(public: Public, folder: Path, code: str, arguments: list[str]) -> str:
    """What a program prints that finds the host name as another machine does; here it is that of this machine."""
    import subprocess
    import sys

    (folder / "sitecustomize.py").write_text(
        "import socket\nknown = socket.getaddrinfo\n"
        f"socket.getaddrinfo = lambda host, *more, **named: known("
        f"'127.0.0.1' if host in ('{NAME}', b'{NAME}') else host, *more, **named)\n"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(folder),
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"{public.url}/prefect/api",
        "PREFECT_API_AUTH_STRING": f"vera:{key_of('vera')}",
        "MLFLOW_TRACKING_URI": f"{public.url}/mlflow",
        "MLFLOW_TRACKING_USERNAME": "vera",
        "MLFLOW_TRACKING_PASSWORD": key_of("vera"),
        "SSL_CERT_FILE": public.root,
        "REQUESTS_CA_BUNDLE": public.root,
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _s3(public: Public, role: Role | tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    known = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: known("127.0.0.1" if host == NAME else host, *more, **named)
    )
    key, secret = public.settings.s3_keys(role) if isinstance(role, Role) else role
    return boto3.client(
        "s3",
        endpoint_url=public.settings.public_s3_url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        verify=public.root,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}),
    )


def test_the_object_store_takes_signed_requests_links_and_uploads_in_parts(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the key: a proxy that takes a prefix off the path breaks the signatures of all but plain keys."""
    store = _s3(public, Role.PERSON, monkeypatch)
    context = ssl.create_default_context(cafile=public.root)
    assert len(store.list_buckets()["Buckets"]) >= 5
    with httpx.Client(verify=context, trust_env=False) as browser:
        for key in ("a.txt", "b c.txt", "dir/x+y.txt", "ü.txt", "a//b", "p%2Fq", "q?=&.txt"):
            store.put_object(Bucket="media", Key=key, Body=b"hello")
            assert store.get_object(Bucket="media", Key=key)["Body"].read() == b"hello"
            link = store.generate_presigned_url("get_object", Params={"Bucket": "media", "Key": key})
            answer = browser.get(link)
            assert (answer.status_code, answer.content) == (200, b"hello")
            assert browser.get(link.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601")).status_code == 403
        assert "sandbox" in answer.headers["content-security-policy"]
        upload = store.create_multipart_upload(Bucket="datasets", Key="x y.zip")["UploadId"]
        part = {"Bucket": "datasets", "Key": "x y.zip", "UploadId": upload, "PartNumber": 1}
        address = store.generate_presigned_url("upload_part", Params=part)
        asked = {"Origin": public.url, "Access-Control-Request-Method": "PUT"}
        assert browser.options(address, headers=asked).headers["access-control-allow-origin"] == public.url
        assert browser.put(address, content=b"zip", headers={"Origin": public.url}).status_code == 200
        store.abort_multipart_upload(Bucket="datasets", Key="x y.zip", UploadId=upload)
        assert browser.get(f"{public.settings.public_s3_url}/media/a.txt").status_code == 403


def test_nothing_but_the_front_door_listens_beyond_this_machine(public: Public) -> None:
    ports = {public.settings.public_port, public.settings.public_s3_port}
    beyond = set()
    for process in supervisord.processes(public.settings):
        for found in process.net_connections(kind="inet"):
            is_open = found.status == psutil.CONN_LISTEN or (found.type == socket.SOCK_DGRAM and not found.raddr)
            if is_open and found.laddr.ip not in {"127.0.0.1", "::1"}:
                beyond.add(found.laddr.port)
    assert beyond == ports


def test_the_secret_is_in_no_command_line_and_in_files_of_its_owner_alone(public: Public) -> None:
    secret = public.settings.secrets["front_door"]
    for process in supervisord.processes(public.settings):
        assert secret not in " ".join(process.cmdline())
    holders = [path for path in public.settings.state_dir.rglob("*") if path.is_file() and _holds(path, secret)]
    assert holders
    assert not [path for path in holders if path.stat().st_mode & 0o077]


def _holds(path: Path, secret: str) -> bool:
    try:
        return path.stat().st_size < 1 << 20 and secret.encode() in path.read_bytes()
    except OSError:
        return False


def test_the_store_takes_new_keys_without_a_lost_request(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    known = _s3(public, Role.PERSON, monkeypatch)
    known.put_object(Bucket="media", Key="constant", Body=b"1")
    failed: list[Exception] = []
    counts = [0, 0, 0, 0]
    done = threading.Event()

    def ask(number: int) -> None:
        while not done.is_set():
            try:
                known.get_object(Bucket="media", Key="constant")["Body"].read()
                counts[number] += 1
            except (ClientError, BotoCoreError) as error:
                failed.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    keys = []
    for _ in range(5):  # each takes the place of the one before
        keys.append(give_key(public.settings, "vera", UserRole.VIEWER))
        vera = _s3(public, (keys[-1].key, keys[-1].secret), monkeypatch)
        eventually(partial(_is_open, vera), "a key that opens the store", 10, every_s=0.05)
    done.set()
    for thread in threads:
        thread.join()
    print(f"{sum(counts)} requests beside 5 new keys, {len(failed)} failed")
    assert not failed
    assert sum(counts) > 100
    assert vera.get_object(Bucket="media", Key="constant")["Body"].read() == b"1"
    for bucket, key in (("media", "new"), ("mlflow", "new")):
        with pytest.raises(ClientError, match="AccessDenied"):
            vera.put_object(Bucket=bucket, Key=key, Body=b"1")
    former = _s3(public, (keys[0].key, keys[0].secret), monkeypatch)
    assert not _is_open(former)
    follow_accounts(public.settings, {"vera": UserRole.OPERATOR})
    eventually(lambda: _writes(vera), "a key that may write", 10)
    assert take_key(public.settings, "vera") is Taken.REFUSED
    assert not _is_open(vera)


def _is_open(store: Any) -> bool:
    try:
        store.list_objects_v2(Bucket="media", MaxKeys=1)
    except ClientError:
        return False
    return True


def _writes(store: Any) -> bool:
    try:
        store.put_object(Bucket="media", Key="new", Body=b"1")
    except ClientError:
        return False
    return True


def test_prefects_and_mlflows_pages_work_in_a_browser(
    public: Public, deployment: str, open_browser: OpenBrowser, tmp_path: Path
) -> None:
    """With a session and no password; what they load is under their addresses, and they show what is there."""
    outside = ("--ignore-certificate-errors", f"--host-resolver-rules=MAP {NAME} 127.0.0.1")
    with public.client("otto") as otto:
        run = otto.post(f"/prefect/api/deployments/{deployment}/create_flow_run", json={"name": "seen-run"}).json()
    with open_browser(tmp_path / "profile", *outside) as page:
        cookie = {"name": SESSION, "value": "session-of-otto", "url": public.url, "secure": True, "path": "/"}
        page.call("Network.setCookie", **cookie)
        page.open(f"{public.url}/prefect/runs/flow-run/{run['id']}")
        page.wait("document.body?.innerText.includes('seen-run')", 60)
        assert page.js("document.body.innerText").count("started-by:otto")
        page.open(f"{public.url}/mlflow/")
        page.wait("document.body?.innerText.includes('Experiments')", 60)
        assert page.js("location.pathname") == "/mlflow/"

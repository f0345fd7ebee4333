"""The front door with the real front page behind it: accounts, tokens, sessions, and a browser (`make proof`)."""

import base64
import html
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from infra.accounts.audit import AuditChoice, list_entries
from infra.accounts.bootstrap import MACHINE, open_accounts
from infra.accounts.cookies import SESSION
from infra.accounts.database import Database
from infra.accounts.people import set_disabled, set_role
from infra.accounts.roles import UserRole
from infra.front_door import program
from infra.logs.query import Query
from infra.logs.reader import read_forwards
from infra.services import s3_client
from tests.infra.accounts.populations import PASSWORD, add_person, add_session, add_token, pass_time
from tests.infra.browser import OpenBrowser
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
        set_role(accounts, person, UserRole.VIEWER, MACHINE)
        assert client.put(path, auth=auth, json={"name": "x"}).status_code == 403
    set_disabled(accounts, person, MACHINE, disabled=True)
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
    set_role(accounts, person, UserRole.ADMIN, MACHINE)
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
        set_role(accounts, person, UserRole.VIEWER, MACHINE)
        answer = client.post("/mlflow/api/2.0/mlflow/runs/search", auth=auth, json=search)
        assert answer.status_code >= 400
        assert client.get("/sign-in", headers={"X-Studio-Flow-Run": run}).is_success
        assert client.get("/datasets", auth=auth, headers={"X-Studio-Flow-Run": run}).is_success
        folder = public.settings.state_dir / "logs"
        request = answer.headers["x-request-id"]
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

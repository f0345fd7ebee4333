"""People outside, by the real front door: Caddy with TLS, the front page as a service, and PostgreSQL."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from infra import front_door
from infra.accounts.database import Database
from infra.accounts.roles import UserRole
from infra.services import front_page
from infra.stack_settings import StackSettings
from tests.infra.accounts.database import free_port
from tests.infra.accounts.populations import PASSWORD, add_person, add_session, add_token, audit_of
from tests.waiting import eventually

NAME = "studio.test"

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not Path(front_door.program()).is_file(), reason="no Caddy: `make setup` installs it"),
]


class _ByName(httpx.BaseTransport):
    """No name server knows the host: the connection goes to this machine, by that name."""

    def __init__(self, root: Path, port: int) -> None:
        self._inner = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=str(root)))
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = NAME
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def outer(accounts_settings: StackSettings) -> Iterator[StackSettings]:
    """The settings of the front door and the front page that run."""
    ports = {name: free_port() for name in ("public_port", "public_s3_port", "live_port")}
    settings = accounts_settings.model_copy(update=ports | {"public_host": NAME})
    front_door.prepare_front_door(settings)
    with ExitStack() as running:
        for service in (front_page(settings), front_door.front_door(settings)):
            environment = service.environment | {"STUDIO_LIVE_PORT": str(settings.live_port)}
            process = running.enter_context(subprocess.Popen(service.command, env=environment))
            running.callback(process.terminate)
        eventually(lambda: _is_well(settings), "the front door", 180)
        yield settings


def _is_well(settings: StackSettings) -> bool:
    try:
        front_door.check(settings)
    except httpx.HTTPError:
        return False
    return front_door.root_certificate(settings).is_file()


@pytest.fixture
def client(outer: StackSettings) -> Iterator[httpx.Client]:
    """A browser outside, which keeps cookies and follows nothing."""
    transport = _ByName(front_door.root_certificate(outer), outer.public_port)
    with httpx.Client(transport=transport, base_url=outer.public_url, timeout=60, trust_env=False) as opened:
        yield opened


def test_a_person_signs_in_and_out_by_the_front_door(
    client: httpx.Client, outer: StackSettings, database: Database
) -> None:
    add_person(database, "ada")
    page = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/live", headers=page).headers["location"] == "/sign-in?next=%2Flive"
    form = client.get("/sign-in?next=/live").text
    token = form.partition('name="form" value="')[2].partition('"')[0]
    fields = {"form": token, "next": "/live", "name": "ada", "password": PASSWORD}
    foreign = client.post("/sign-in", data=fields, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    own = {"Origin": outer.public_url, "Sec-Fetch-Site": "same-origin"}
    signed_in = client.post("/sign-in", data=fields, headers=own | page)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/live")
    shown = client.get("/live", headers=page)
    assert (shown.status_code, "ada" in shown.text) == (200, True)
    own["X-Studio-Token"] = shown.text.partition('name="studio-token" content="')[2].partition('"')[0]
    assert client.post("/sign-out", headers=own | {"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/sign-out", headers=own).headers["hx-redirect"] == "/sign-in"
    assert client.get("/live").status_code == 401
    assert [(each.action, each.address) for each in audit_of(database)] == [
        *(("sign-out", "127.0.0.1"), ("foreign-page", "127.0.0.1"), ("sign-in", "127.0.0.1")),
    ]


def test_a_program_with_a_token_and_one_that_makes_itself_a_name(client: httpx.Client, database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada")
    key = add_token(database, "ada", UserRole.VIEWER)
    forged = {"X-Studio-User": "boss", "X-Studio-Role": "admin", "X-Forwarded-For": "203.0.113.9"}
    forged |= {"X-Forwarded-Uri": "/sign-in", "X-Forwarded-Method": "GET", "X-Forwarded-Host": "evil.example"}
    for auth in ({"auth": ("ada", key)}, {"headers": {"Authorization": f"Bearer {key}"}}):
        assert client.get("/runs", **auth).status_code == 200  # type: ignore[arg-type]
        assert client.get("/accounts", **auth).status_code == 403  # type: ignore[arg-type]
    assert client.get("/accounts", headers=forged).status_code == 401
    assert client.get("/accounts", auth=("ada", key), headers=forged).status_code == 403
    assert client.get("/accounts", auth=("boss", PASSWORD)).status_code == 401
    assert client.post("/start/x", auth=("ada", key), headers=forged).status_code == 403
    assert client.get("/auth/check", auth=("ada", key)).status_code == 404
    assert {each.address for each in audit_of(database) if each.method} == {"127.0.0.1"}


def test_the_cookie_of_a_session_acts_for_no_page_of_another_site(client: httpx.Client, database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    client.cookies.set("__Host-studio-session", add_session(database, "boss"))
    for path in ("/accounts", "/prefect/api/flows/filter", "/mlflow/api/2.0/mlflow/runs/create"):
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert client.post(path, headers=headers).status_code == 403, path

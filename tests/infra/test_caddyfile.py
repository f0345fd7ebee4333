"""The settings of the front door, and what Caddy makes of its file with them."""

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.accounts import cookies, visitors
from infra.command_errors import StackError
from infra.environment import common_environment, door_environment
from infra.front_door import CADDYFILE, front_door, prepare_front_door, program, require_front_door
from infra.services import services
from infra.stack_settings import StackSettings
from tasks.log_lines import RUN_HEADER
from tests.waiting import eventually

needs_caddy = pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed")


@pytest.fixture
def caddy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some program in its place: here nothing is started."""
    monkeypatch.setenv("STUDIO_CADDY", "/bin/true")


def settings_of(tmp_path: Path, **values: object) -> StackSettings:
    return StackSettings(state_dir=tmp_path, public=True, **{"public_host": "studio.example.org", **values})  # type: ignore[arg-type]


def adapted(settings: StackSettings) -> Any:
    """Caddy's own configuration, of the file and the variables that it is started with."""
    service = front_door(settings)
    program, _, *arguments = service.command
    done = subprocess.run(
        [program, "adapt", "--validate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=service.environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_the_setting_there_is_no_front_door_and_no_service_knows_one(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path)
    assert "front-door" not in {service.name for service in services(settings)}
    assert door_environment(settings) == {}
    for service in services(settings):
        assert not {"STUDIO_FRONT_DOOR_SECRET", "PREFECT_SERVER_UI_SERVE_BASE"} & service.environment.keys()


def test_with_the_setting_the_services_behind_it_alone_know_its_secret(tmp_path: Path) -> None:
    by_name = {service.name: service for service in services(settings_of(tmp_path))}
    knowing = {name for name, service in by_name.items() if "STUDIO_FRONT_DOOR_SECRET" in service.environment}
    assert knowing == {"prefect", "mlflow", "studio", "front-door"}
    secret = settings_of(tmp_path).secrets["front_door"]
    assert not [name for name, service in by_name.items() if secret in " ".join(service.command)]
    assert set(by_name["front-door"].ports) == {"STUDIO_PUBLIC_PORT", "STUDIO_PUBLIC_S3_PORT"}


def test_the_names_that_the_front_door_knows_are_those_of_the_services() -> None:
    text = CADDYFILE.read_text()
    headers = {
        visitors.SECRET_HEADER,
        visitors.NAME_HEADER,
        visitors.ROLE_HEADER,
        visitors.SOCKET_HEADER,
        visitors.REFUSED_HEADER,
        RUN_HEADER,
    }
    assert {*re.findall(r"X-Studio-[\w-]+", text)} == headers
    assert [header for header in headers if f"\trequest_header -{header}\n" not in text] == []
    assert f"not header Cookie *{cookies.SESSION}=*" in text
    assert f"uri {visitors.CHECK}\n" in text
    assert f"handle {visitors.CHECK} {{\n\t\t\trespond 404" in text


def test_pages_link_the_outer_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDIO_LIVE_URL")
    known = common_environment(settings_of(tmp_path, public_port=443))
    assert known["PREFECT_UI_URL"] == "https://studio.example.org/prefect"
    assert known["MLFLOW_UI_URL"] == "https://studio.example.org/mlflow"
    assert known["STUDIO_LIVE_URL"] == "https://studio.example.org/live"
    assert known["STUDIO_S3_URL"] == "https://studio.example.org:8444"


@pytest.mark.usefixtures("caddy")
@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"public_host": ""}, "STUDIO_PUBLIC_HOST"),
        ({"public_host": "a b"}, "STUDIO_PUBLIC_HOST"),
        ({"public_host": "x {\n}"}, "STUDIO_PUBLIC_HOST"),
        ({"public_host": "-x.org"}, "STUDIO_PUBLIC_HOST"),
        ({"public_host": "*.example.org"}, "STUDIO_PUBLIC_HOST"),
        ({"public_bind": "0.0.0.0 }"}, "STUDIO_PUBLIC_BIND"),
        ({"public_bind": "eth0"}, "STUDIO_PUBLIC_BIND"),
        ({"public_tls": "missing.pem,missing.key"}, "STUDIO_PUBLIC_TLS"),
        ({"public_tls": "selfsigned"}, "STUDIO_PUBLIC_TLS"),
        ({"public_s3_port": 8443}, "STUDIO_PUBLIC_S3_PORT"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(
    tmp_path: Path, values: dict[str, object], setting: str
) -> None:
    with pytest.raises(StackError, match=setting):
        require_front_door(settings_of(tmp_path, **values))


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CADDY", str(tmp_path / "none"))
    with pytest.raises(StackError, match="make setup"):
        require_front_door(settings_of(tmp_path))


def test_its_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    prepare_front_door(settings_of(tmp_path))
    assert (tmp_path / "front-door").stat().st_mode & 0o777 == 0o700


@needs_caddy
@pytest.mark.parametrize("tls", ["internal", "acme", "files"])
def test_caddy_takes_the_file_and_opens_no_other_port(tmp_path: Path, tls: str) -> None:
    files = [tmp_path / name for name in ("a certificate.pem", "key.pem")]
    if tls == "files":
        from infra.store_security import _certificate

        for path, text in zip(files, _certificate(), strict=True):
            path.write_text(text)
    settings = settings_of(tmp_path, public_tls=",".join(map(str, files)) if tls == "files" else tls)
    require_front_door(settings)
    configuration = adapted(settings)
    assert configuration["admin"]["disabled"] is True
    servers = configuration["apps"]["http"]["servers"].values()
    assert {address for server in servers for address in server["listen"]} == {":8443", ":8444"}
    assert all(server["automatic_https"]["disable_redirects"] for server in servers)
    assert ("issuers" in json.dumps(configuration["apps"]["tls"])) == (tls != "files")


@needs_caddy
def test_it_listens_at_the_addresses_that_are_named(tmp_path: Path) -> None:
    servers = adapted(settings_of(tmp_path, public_bind="127.0.0.1 ::1"))["apps"]["http"]["servers"].values()
    listening = {address for server in servers for address in server["listen"]}
    assert listening == {"127.0.0.1:8443", "[::1]:8443", "127.0.0.1:8444", "[::1]:8444"}


@needs_caddy
def test_a_store_elsewhere_has_no_port_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com")
    servers = adapted(settings_of(tmp_path))["apps"]["http"]["servers"].values()
    assert [server["listen"] for server in servers] == [[":8443"]]


@needs_caddy
def test_requests_wait_for_each_service_behind_it_that_restarts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    proxies = [*handlers(adapted(settings), "reverse_proxy")]
    ports = {settings.prefect_port, settings.mlflow_port, settings.live_port, settings.s3_port}
    assert {int(proxy["upstreams"][0]["dial"].rpartition(":")[2]) for proxy in proxies} == ports
    assert {proxy["load_balancing"]["try_duration"] for proxy in proxies} == {60 * 10**9}


def handlers(node: Any, name: str) -> Iterator[Any]:
    """The handlers of a name in Caddy's own configuration."""
    if isinstance(node, dict):
        if node.get("handler") == name:
            yield node
        node = list(node.values())
    for each in node if isinstance(node, list) else ():
        yield from handlers(each, name)


class Behind:
    """A server in the place of all services behind the front door; it lets everybody in as ada."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []  # what was asked for, and its headers by small letters
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=self.listener.accept()[:1], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as sent, contextlib.suppress(OSError):
            while line := sent.readline():
                lines = iter(sent.readline, b"\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.decode().partition(":") for line in lines)
                }
                self.asked.append((line.decode().rpartition(" ")[0], headers))
                sent.read(int(headers.get("content-length", 0)))
                of_ada = b"X-Studio-User: ada\r\nX-Studio-Role: admin\r\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + of_ada + b"Content-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StackSettings, Behind]]:
    """Caddy as it is started, and what it asks."""
    behind = Behind()
    services = dict.fromkeys(("live_port", "prefect_port", "mlflow_port", "s3_port"), behind.port)
    outer = {"public_port": free_port(), "public_s3_port": free_port()}
    settings = settings_of(tmp_path_factory.mktemp("door"), public_host="localhost", **services, **outer)
    prepare_front_door(settings)
    service = front_door(settings)
    with subprocess.Popen(service.command, env=service.environment, stderr=subprocess.DEVNULL) as caddy:
        try:
            eventually(lambda: answers(settings), "Caddy that answers")
            yield settings, behind
        finally:
            caddy.terminate()
            behind.listener.close()


@needs_caddy
@pytest.mark.heavy
def test_strangers_whose_bodies_never_come_are_shut_out_after_half_a_minute(
    door: tuple[StackSettings, Behind],
) -> None:
    """All are answered, too; those whom the front page lets pass are Caddy's to close, which it does not."""
    settings, _ = door
    sent = request(settings, "POST /auth/check", **{"Content-Length": "9"}) + b"n"
    with contextlib.ExitStack() as held:
        strangers = [held.enter_context(opened(settings, sent)) for _ in range(200)]
        began = time.monotonic()
        for stranger in strangers:
            stranger.settimeout(40)
            assert b"".join(iter(lambda each=stranger: each.recv(1000), b"")).startswith(b"HTTP/1.1 404")  # type: ignore[misc]
        assert 25 < time.monotonic() - began < 40
        print(f"200 strangers were shut out within {time.monotonic() - began:.0f} s")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def opened(settings: StackSettings, sent: bytes) -> ssl.SSLSocket:
    """A connection over which something was sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", settings.public_port), timeout=10)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    connection.sendall(sent)
    return connection


def answers(settings: StackSettings) -> bool:
    try:
        opened(settings, b"").close()
    except OSError:
        return False
    return True


def request(settings: StackSettings, line: str, **headers: str) -> bytes:
    host = f"localhost:{settings.public_port}"
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@needs_caddy
@pytest.mark.parametrize("named", ["", "X-Studio-Socket, ", "x-studio-socket, X-Request-Id, X-Studio-User, "])
def test_what_a_client_names_in_connection_takes_no_header_of_ours_off(
    door: tuple[StackSettings, Behind], named: str
) -> None:
    settings, behind = door
    keys = {"Authorization": "x", "Cookie": "y=z"}
    for opens, headers in ((True, {"Upgrade": "websocket", **keys}), (False, keys)):
        behind.asked.clear()
        line = f"{'GET' if opens else 'POST'} /prefect/api/events/in"
        sent = request(settings, line, Connection=f"{named}{'Upgrade' if opens else 'close'}", **headers)
        with opened(settings, sent) as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        (question, asked), (_, passed) = behind.asked
        assert question == "GET /auth/check"
        assert asked.get("x-studio-socket") == passed.get("x-studio-socket") == ("websocket" if opens else None)
        assert asked["x-request-id"] == passed["x-request-id"] != ""
        assert passed["x-studio-user"] == "ada"
        assert passed.get("upgrade") == ("websocket" if opens else None)
        # With a socket, of which Prefect's door asks later whether it may stay open.
        assert [passed.get(name) for name in ("authorization", "cookie")] == (["x", "y=z"] if opens else [None, None])


@needs_caddy
@pytest.mark.parametrize("path", ["/sign-in", "/mlflow/x", "/prefect/api/x"])
def test_a_body_that_never_comes_takes_no_connection_of_a_service(
    door: tuple[StackSettings, Behind], path: str
) -> None:
    settings, behind = door
    behind.asked.clear()
    with contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(opened(settings, request(settings, f"POST {path}", **{"Content-Length": "9"}) + b"n"))
        eventually(lambda: len(behind.asked) == 5, "a question about each")
        whole = held.enter_context(
            opened(settings, request(settings, f"POST {path}", **{"Content-Length": "1"}) + b"n")
        )
        assert whole.recv(1000).startswith(b"HTTP/1.1 200")
        assert [line for line, _ in behind.asked].count("GET /auth/check") == 6
        assert len(behind.asked) == 7

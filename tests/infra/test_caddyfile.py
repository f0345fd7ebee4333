"""The settings of the front door, and the file that Caddy gets."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.accounts import cookies
from infra.command_errors import StackError
from infra.environment import common_environment, door_environment
from infra.front_door import RESTART_S, caddyfile, front_door, prepare_front_door, program, require_front_door
from infra.services import services
from infra.stack_settings import StackSettings


@pytest.fixture
def caddy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some program in its place: here nothing is started."""
    monkeypatch.setenv("STUDIO_CADDY", "/bin/true")


def settings_of(tmp_path: Path, **values: object) -> StackSettings:
    return StackSettings(state_dir=tmp_path, public=True, **{"public_host": "studio.example.org", **values})  # type: ignore[arg-type]


def test_without_the_setting_there_is_no_front_door_and_no_service_knows_one(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path)
    assert "front-door" not in {service.name for service in services(settings)}
    assert door_environment(settings) == {}
    for service in services(settings):
        assert not {"STUDIO_FRONT_DOOR_SECRET", "PREFECT_SERVER_UI_SERVE_BASE"} & service.environment.keys()


def test_with_the_setting_the_services_behind_it_alone_know_its_secret(tmp_path: Path) -> None:
    by_name = {service.name: service for service in services(settings_of(tmp_path))}
    knowing = {name for name, service in by_name.items() if "STUDIO_FRONT_DOOR_SECRET" in service.environment}
    assert knowing == {"prefect", "mlflow", "studio"}
    secret = settings_of(tmp_path).secrets["front_door"]
    assert not [name for name, service in by_name.items() if secret in " ".join(service.command)]
    assert set(by_name["front-door"].ports) == {"STUDIO_PUBLIC_PORT", "STUDIO_PUBLIC_S3_PORT"}


def test_the_cookie_that_the_front_door_knows_is_that_of_sessions(tmp_path: Path) -> None:
    assert f"not header Cookie *{cookies.SESSION}=*" in caddyfile(settings_of(tmp_path))


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


def test_its_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    prepare_front_door(settings)
    path = tmp_path / "front-door" / "Caddyfile"
    assert settings.secrets["front_door"] in path.read_text()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert str(path) in front_door(settings).command


@pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed")
@pytest.mark.parametrize("tls", ["internal", "acme", "files"])
def test_caddy_takes_the_file_and_opens_no_other_port(tmp_path: Path, tls: str) -> None:
    files = [tmp_path / name for name in ("a certificate.pem", "key.pem")]
    if tls == "files":
        from infra.store_security import _certificate

        for path, text in zip(files, _certificate(), strict=True):
            path.write_text(text)
    settings = settings_of(tmp_path, public_tls=",".join(map(str, files)) if tls == "files" else tls)
    require_front_door(settings)
    prepare_front_door(settings)
    file = str(tmp_path / "front-door" / "Caddyfile")
    done = subprocess.run(
        [program(), "validate", "--config", file, "--adapter", "caddyfile"],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "admin off" in caddyfile(settings)
    assert "auto_https disable_redirects" in caddyfile(settings)


@pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed")
def test_requests_wait_for_each_service_behind_it_that_restarts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    prepare_front_door(settings)
    command = [program(), "adapt", "--config", str(tmp_path / "front-door" / "Caddyfile"), "--adapter", "caddyfile"]
    adapted = subprocess.run(command, capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)})
    proxies = [*handlers(json.loads(adapted.stdout), "reverse_proxy")]
    ports = {settings.prefect_port, settings.mlflow_port, settings.live_port, settings.s3_port}
    assert {int(proxy["upstreams"][0]["dial"].rpartition(":")[2]) for proxy in proxies} == ports
    assert {proxy["load_balancing"]["try_duration"] for proxy in proxies} == {RESTART_S * 10**9}


def handlers(node: Any, name: str) -> Iterator[Any]:
    """The handlers of a name in Caddy's own configuration."""
    if isinstance(node, dict):
        if node.get("handler") == name:
            yield node
        node = list(node.values())
    for each in node if isinstance(node, list) else ():
        yield from handlers(each, name)

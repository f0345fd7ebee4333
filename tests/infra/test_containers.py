"""The images and the compose file: held against their schemas, the settings of the programs, and the programs.

tests/infra/test_container_images.py builds images and starts them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import yaml
from dotenv import dotenv_values

from infra import container, preflight, services
from infra.command_errors import StackError
from infra.identities import Role, secret_names
from infra.initialization import OPTIONAL, make_secrets
from infra.stack_settings import ROOT, SECRETS, StackSettings, read_secrets
from infra.supervisord import Service
from tasks.settings import Settings

FILE = ROOT / "infra" / "compose.yaml"
TEXT = FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dotenv_values(ROOT / "infra" / ".env.example")
DOCKERFILES = sorted((ROOT / "infra" / "images").glob("*.Dockerfile"))
FRONT_DOORS = {"front-door"}  # what may be reached from elsewhere
OURS = {name: each for name, each in SERVICES.items() if "/yolo-studio/" in each["image"]}


def prepared(name: str) -> Service:
    """The service that a container would become; it sets variables of its process, and these tests go on in it."""
    before = dict(os.environ)
    try:
        return container.prepare(name)
    finally:
        os.environ.clear()
        os.environ.update(before)


def program(service: dict[str, Any]) -> container.Program:
    (name,) = service["command"]
    return container.PROGRAMS[name]


def test_the_file_is_one_of_the_compose_specification() -> None:
    schema = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.name))
def test_a_dockerfile_has_no_fault_that_hadolint_knows(path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed here")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.name))
def test_an_image_takes_pinned_packages_runs_as_nobody_and_tells_its_health(path: Path) -> None:
    text = path.read_text()
    syncs = re.findall(r"uv pip sync.*", text)
    assert syncs
    assert all("--require-hashes" in line for line in syncs)
    assert not re.search(r"pip install(?!.*--require-hashes)", text)
    last = text.rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in last
    assert "\nHEALTHCHECK " in last
    assert re.search(r'\nENTRYPOINT \["/usr/bin/tini", "--", ', last)
    (default,) = re.findall(r'\nCMD \["(.+?)"\]', last)
    assert default in container.PROGRAMS


def test_each_variable_of_the_file_is_in_the_example_and_the_reverse() -> None:
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", TEXT))
    assert set(re.findall(r"\$\{?([A-Z_]+)", TEXT)) == used.keys()
    of_compose = {"COMPOSE_PROFILES"}
    assert EXAMPLE.keys() - of_compose == used.keys()
    assert {name: EXAMPLE[name] for name in used} == used


@pytest.mark.parametrize("name", OURS)
def test_each_variable_of_a_container_is_read_by_its_program(name: str) -> None:
    ours = {f"STUDIO_{each.upper()}" for each in StackSettings.model_fields}
    known = ours | {each.upper() for each in Settings.model_fields} | {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}
    assert SERVICES[name].get("environment", {}).keys() <= known


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_given_just_the_secrets_of_its_program(name: str) -> None:
    assert sorted(SERVICES[name]["secrets"]) == sorted(program(SERVICES[name]).secrets)


def test_the_secrets_of_the_file_are_those_that_are_made() -> None:
    made = {*SECRETS, *OPTIONAL}
    assert COMPOSE["secrets"].keys() == {name for each in SERVICES.values() for name in each.get("secrets", [])}
    assert COMPOSE["secrets"].keys() <= made
    assert all(each["file"] == f"${{STUDIO_SECRETS:-secrets}}/{name}" for name, each in COMPOSE["secrets"].items())


def test_only_the_front_door_is_published_beyond_this_machine() -> None:
    for name, each in SERVICES.items():
        if name not in FRONT_DOORS:
            assert all(port.startswith("127.0.0.1:") for port in each.get("ports", [])), name


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_has_no_privilege_and_is_bounded(name: str) -> None:
    each = SERVICES[name]
    assert each["read_only"] is True
    assert each["cap_drop"] == ["ALL"]
    assert each["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in each
    once = each["restart"] == "no"
    assert once or each["deploy"]["resources"]["limits"]["memory"]
    assert once or each["healthcheck"]["test"][:5] == ["CMD", ".venv/bin/python", "-I", "-S", "infra/health.py"]


def test_the_database_is_reached_by_those_that_have_its_password_alone() -> None:
    def on(network: str) -> set[str]:
        return {name for name, each in SERVICES.items() if network in each.get("networks", [])}

    assert COMPOSE["networks"]["databases"]["internal"] is True
    assert on("databases") == {name for name, each in SERVICES.items() if "postgres" in each.get("secrets", [])}
    assert "postgres" not in on("services")


@pytest.mark.parametrize("name", OURS)
def test_a_container_has_the_name_and_the_address_by_which_others_call_it(name: str) -> None:
    """A service refuses a request to a name that it does not know."""
    address = str(COMPOSE["x-addresses"])
    called = next((host for host in re.findall(r"//([a-z-]+):|'([a-z-]+):\d", address) if name in host), None)
    if called:
        assert SERVICES[name]["environment"]["STUDIO_HOSTS"] == name


def test_profiles_of_cpu_and_gpu_have_the_same_parts() -> None:
    parts = {
        profile: {each["command"][0] for each in SERVICES.values() if profile in each.get("profiles", [])}
        for profile in ("cpu", "gpu")
    }
    assert parts["cpu"] == parts["gpu"] == {"worker", "training-worker", "triton"}


@pytest.mark.parametrize("name", container.PROGRAMS)
def test_a_program_starts_with_just_its_own_secrets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is started with holds its secrets, and of the others none."""
    every = tmp_path / "every"
    make_secrets(every)
    (every / "notify").chmod(0o600)
    (every / "notify").write_text("json://example.com/hook")
    given = tmp_path / "given"
    given.mkdir()
    for secret in container.PROGRAMS[name].secrets:
        shutil.copy(every / secret, given / secret)
    for variable, value in COMPOSE["x-addresses"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    monkeypatch.setenv("STUDIO_POSTGRES_URL", "postgresql://postgres@postgres:5432")
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(given))
    service = prepared(name)
    seen = " ".join([*service.command, *service.environment.values()])
    secrets = read_secrets(every)
    own = {secret for secret, value in secrets.items() if value and value in seen}
    assert own <= {*container.PROGRAMS[name].secrets, "prefect_auth"}
    if name not in {"object-store", "label-studio"}:  # which read theirs from files, or take another name
        assert own >= {*container.PROGRAMS[name].secrets} - {"s3_events_secret", "label_studio_token"}


def test_a_program_without_its_secret_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would else be open with a password that is empty, or shut with one that nobody knows."""
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(tmp_path))
    with pytest.raises(StackError, match=r"expected the secrets front_page in .*studio init secrets"):
        container.prepare("studio")
    (tmp_path / "front_page").write_text("\n")
    with pytest.raises(StackError, match="expected the secrets front_page"):
        container.prepare("studio")
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(StackError, match="STUDIO_SECRETS_DIR"):
        container.prepare("studio")
    with pytest.raises(StackError, match="expected one of prefect, mlflow"):
        container.prepare("sh")


def test_secrets_that_are_there_stay_and_the_folder_is_shut(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert sorted(make_secrets(folder)) == sorted(SECRETS)
    first = read_secrets(folder)
    assert all(len(first[name]) == 32 for name in SECRETS)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "mlflow").unlink()
    assert make_secrets(folder) == ["mlflow"]
    second = read_secrets(folder)
    assert {name for name in first if first[name] != second[name]} == {"mlflow"}
    folder.chmod(0o755)
    with pytest.raises(StackError, match="nobody else reads"):
        make_secrets(folder)


def test_a_password_that_the_address_of_the_database_has_stays() -> None:
    program = container.PROGRAMS["prefect"]

    def url(address: str) -> str:
        given = {"STUDIO_POSTGRES_URL": address}
        return container.variables(program, {"postgres": "p@ss/w"}, given)["STUDIO_POSTGRES_URL"]

    assert url("postgresql://postgres@db:5432") == "postgresql://postgres:p%40ss%2Fw@db:5432"
    assert url("postgresql://me:mine@db:5432") == "postgresql://me:mine@db:5432"
    with pytest.raises(StackError, match="user@host"):
        url("postgresql://db:5432")


def test_the_keys_of_a_role_are_those_of_its_container() -> None:
    secrets = dict.fromkeys(secret_names(Role.WORKER), "k") | dict.fromkeys(secret_names(Role.ADMIN), "admin")
    found = container.variables(container.PROGRAMS["worker"], secrets, {})
    assert found == {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "k"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["prefect", "worker", "start", "--help"], ["--pool", "--type", "--with-healthcheck", "--limit"]),
        (["weed", "help", "server"], ["-s3.ip.bind", "-s3.config", "-ip.bind", "-filer", "-s3"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_program_knows_the_options_that_it_is_given(command: list[str], options: list[str]) -> None:
    program, *arguments = command
    line = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert [option for option in options if option not in done.stdout + done.stderr] == []


def test_the_store_is_called_by_options_that_it_knows(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path, bind="0.0.0.0")  # noqa: S104
    command = services.object_store(settings).command
    known = subprocess.run([command[0], "help", "server"], capture_output=True, text=True, check=False)
    options = {part.partition("=")[0] for part in command[command.index("server") + 1 :]}
    assert [option for option in options if f"  {option}" not in known.stdout + known.stderr] == []
    assert "-s3.ip.bind=0.0.0.0" in command
    assert "-ip.bind=127.0.0.1" in command  # master, volume and filer stay inside


def test_up_refuses_to_listen_beyond_this_machine(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"STUDIO_BIND to be 127\.0\.0\.1, found 0\.0\.0\.0"):
        preflight.require_loopback(StackSettings(state_dir=tmp_path, bind="0.0.0.0"))  # noqa: S104
    preflight.require_loopback(StackSettings(state_dir=tmp_path))


def test_prefect_copies_its_pages_to_where_it_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would else serve none, and only say so in its log."""
    make_secrets(tmp_path / "secrets")
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path / "state"))
    environment = prepared("prefect").environment
    assert Path(environment["PREFECT_SERVER_UI_STATIC_DIRECTORY"]).is_relative_to(tmp_path / "state")

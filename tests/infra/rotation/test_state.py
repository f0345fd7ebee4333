"""What opens the doors while keys are rotated, and what services find when they start."""

import json
import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from infra import supervisord
from infra.backup import state_files
from infra.command_errors import StackError
from infra.identities import Role, secret_names
from infra.person_keys import write_identities
from infra.rotation import state
from infra.rotation.replacement import put_in_place
from infra.rotation.rotating import rotate
from infra.rotation.state import Rotation, accepted
from infra.stack import keep_private, wait_until_healthy
from infra.stack_settings import POSTGRES_USERS, SECRETS, StackSettings, new_secret, write_private
from infra.supervisord import Service
from tests.infra.accounts.database import free_port

KEPT = {"supervisor", "front_door", "admin_password"}


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    """A stack that does not run."""
    return StackSettings(state_dir=tmp_path)


@pytest.fixture
def rotation(settings: StackSettings) -> Rotation:
    """One that has begun."""
    names = [name for name in SECRETS if name not in KEPT]
    former = {name: settings.secrets[name] for name in names} | {"postgres_user": POSTGRES_USERS[0]}
    new = {name: new_secret() for name in names} | {"postgres_user": POSTGRES_USERS[1]}
    return state.write(settings.state_dir, Rotation(former=former, new=new))


def keys_of_store(settings: StackSettings, role: Role) -> set[str]:
    write_identities(settings)
    entries: list[dict[str, Any]] = json.loads((settings.state_dir / "s3.json").read_text())["identities"]
    (entry,) = (each for each in entries if each["name"] == role)
    return {each["secretKey"] for each in entry["credentials"]}


def test_both_values_open_until_the_rotation_ends(settings: StackSettings, rotation: Rotation) -> None:
    name = secret_names(Role.WORKER)[1]
    assert keys_of_store(settings, Role.WORKER) == {rotation.former[name], rotation.new[name]}
    put = StackSettings(state_dir=settings.state_dir)
    put.write_secrets(put.secrets | dict(rotation.new))
    assert keys_of_store(settings, Role.WORKER) == {rotation.former[name], rotation.new[name]}
    state.write(settings.state_dir, rotation.model_copy(update={"is_ending": True}))
    # By settings that were read before: a process that has not been started anew must not bring the former keys back.
    assert settings.secrets[name] == rotation.former[name]
    assert keys_of_store(settings, Role.WORKER) == {rotation.new[name]}
    state.remove(settings.state_dir)
    assert keys_of_store(settings, Role.WORKER) == {rotation.new[name]}


def test_a_rotation_is_for_its_owner_alone_and_in_no_backup(settings: StackSettings, rotation: Rotation) -> None:
    path = settings.state_dir / state.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert state.read(settings.state_dir) == rotation
    assert {state.FILE, "rotation.lock"} <= state_files.LEFT


def test_a_damaged_rotation_is_named(settings: StackSettings) -> None:
    (settings.state_dir / state.FILE).write_text("{")
    with pytest.raises(StackError, match="Remove it"):
        accepted(settings)


def test_services_find_the_new_values_and_all_else_as_it_was(settings: StackSettings, rotation: Rotation) -> None:
    secrets, services = settings.secrets, settings.state_dir / "services"
    environment = {
        "CUDA_VISIBLE_DEVICES": "1",
        "DATABASE": f"postgresql+asyncpg://postgres:{secrets['postgres']}@127.0.0.1:5433/prefect",
        "PREFECT_API_AUTH_STRING": f"studio:{secrets['prefect']}",
        "STUDIO_FRONT_DOOR_SECRET": secrets["front_door"],
    }
    write_private(services / "prefect.json", json.dumps({"command": ["a b"], "environment": environment}))
    write_private(services / "postgres.json", json.dumps({"command": ["c"], "environment": {}}))
    write_private(settings.state_dir / "env", f"PASSWORD={secrets['front_page']}\nELSEWHERE=kept\n")
    for path in services.iterdir():
        os.utime(path, (1, 1))
    put_in_place(settings, rotation)
    new = rotation.new
    changed = json.loads((services / "prefect.json").read_text())
    assert changed["command"] == ["a b"]
    assert changed["environment"] == {
        "CUDA_VISIBLE_DEVICES": "1",
        "DATABASE": f"postgresql+asyncpg://studio:{new['postgres']}@127.0.0.1:5433/prefect",
        "PREFECT_API_AUTH_STRING": f"studio:{new['prefect']}",
        "STUDIO_FRONT_DOOR_SECRET": secrets["front_door"],
    }
    assert (settings.state_dir / "env").read_text() == f"PASSWORD={new['front_page']}\nELSEWHERE=kept\n"
    assert (services / "postgres.json").stat().st_mtime == 1
    now = StackSettings(state_dir=settings.state_dir)
    assert now.secrets == secrets | dict(new)
    assert f"studio:{new['postgres']}@" in now.database_url

    os.utime(services / "prefect.json", (2, 2))
    put_in_place(now, rotation)  # once more, after a kill
    assert (services / "prefect.json").stat().st_mtime == 2


def test_of_a_stack_that_is_down_those_change_that_nothing_else_can(settings: StackSettings) -> None:
    before, said = settings.secrets, list[str]()
    outcome = rotate(settings, said.append)
    now = StackSettings(state_dir=settings.state_dir).secrets
    assert {name for name in before if before[name] != now[name]} == {"supervisor", "front_door"}
    assert sorted(outcome.rotated) == ["front_door", "supervisor"]
    assert outcome.kept.keys() == {*SECRETS} - {"supervisor", "front_door"}
    assert "from the next `make up` on" in said[0]


@pytest.mark.usefixtures("rotation")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_of_a_stack_that_is_down_none_change_while_a_rotation_has_not_ended(
    settings: StackSettings, elsewhere: bool
) -> None:
    before, said = settings.read_secrets(), list[str]()
    with pytest.raises(StackError, match=r"found one that was cut short.*the former keys open the doors"):
        rotate(settings, said.append, elsewhere=elsewhere)
    assert settings.read_secrets() == before
    assert state.is_under_way(settings.state_dir)
    assert said == []


@pytest.mark.usefixtures("rotation")
def test_a_rotation_ends_at_once_if_the_stack_is_stopped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """supervisord is real and keeps no service up; the store is elsewhere, so that nothing but it is asked first."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    settings = StackSettings(state_dir=tmp_path, supervisor_port=free_port(), postgres_port=free_port())
    keep_private(tmp_path)
    supervisord.start(settings, supervisord.write_configuration(settings, []), dict(os.environ))
    try:
        assert supervisord.is_up(settings)
        began = time.monotonic()
        with patch.dict(os.environ), pytest.raises(StackError, match=r"found one that was stopped\. `studio up`, then"):
            rotate(settings, lambda _: assert_stopped(settings))
        assert time.monotonic() - began < 20
    finally:
        supervisord.stop(settings)
    assert state.is_under_way(tmp_path)


def assert_stopped(settings: StackSettings) -> None:
    assert supervisord.stop(settings)
    assert not supervisord.is_up(settings)


def test_nobody_waits_for_a_service_of_a_stack_that_is_down(settings: StackSettings) -> None:
    def fail() -> None:
        raise OSError("Connection refused")

    service = Service(name="mlflow", address="", command=[], ports={}, check=fail)
    with pytest.raises(StackError, match="Expected a stack that starts mlflow, found one that was stopped"):
        wait_until_healthy([service], settings, print)


def test_without_a_stack_and_in_containers_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="`studio up` makes one"):
        rotate(StackSettings(state_dir=tmp_path), print)
    folder = tmp_path / "secrets"
    folder.mkdir()
    with pytest.raises(StackError, match="start the containers anew"):
        rotate(StackSettings(state_dir=tmp_path, secrets_dir=folder), print)

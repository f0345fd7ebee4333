"""Keys of people for the object store, in the file that it reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.accounts.roles import UserRole
from infra.identities import ACTIONS, VIEWING, WORKING_ELSEWHERE, Role
from infra.person_keys import follow_accounts, give_key, read_keys, take_key, write_identities
from infra.stack_settings import StackSettings
from tasks.errors import StudioError


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    """A stack that does not run."""
    return StackSettings(state_dir=tmp_path)


def identities(settings: StackSettings) -> dict[str, Any]:
    entries = json.loads((settings.state_dir / "s3.json").read_text())["identities"]
    return {entry["name"]: entry for entry in entries}


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        (UserRole.VIEWER, VIEWING),
        (UserRole.OPERATOR, ACTIONS[Role.PERSON]),
        (UserRole.WORKER, WORKING_ELSEWHERE),
        (UserRole.ADMIN, ACTIONS[Role.PERSON]),
    ],
)
def test_a_key_may_what_the_role_of_its_account_may(
    settings: StackSettings, role: UserRole, actions: list[str]
) -> None:
    made = give_key(settings, "vera", role)
    entry = identities(settings)["account-vera"]
    assert entry["actions"] == actions
    assert entry["credentials"] == [{"accessKey": made.key, "secretKey": made.secret}]
    assert {*Role} <= identities(settings).keys()


def test_a_viewer_writes_nothing_and_reads_no_weights_and_no_models() -> None:
    assert {action.partition(":")[0] for action in VIEWING} == {"Read", "List"}
    assert not [action for action in VIEWING if action.endswith((":models", ":base-models", ":mlflow"))]


def test_a_worker_elsewhere_writes_neither_what_triton_loads_nor_files_of_mlflow_nor_base_models() -> None:
    buckets = {action.partition(":")[2].removesuffix("/?*") for action in WORKING_ELSEWHERE}
    assert buckets == {"datasets", "media", "predictions", "runs", "base-models"}
    assert not [action for action in WORKING_ELSEWHERE if action.startswith("Write:") and "base-models" in action]


def test_another_key_takes_the_place_of_the_one_before(settings: StackSettings) -> None:
    first, second = (give_key(settings, "vera", UserRole.VIEWER) for _ in range(2))
    assert first.key != second.key
    assert read_keys(settings) == {"vera": second}
    assert first.key not in (settings.state_dir / "s3.json").read_text()


def test_a_key_follows_its_account(settings: StackSettings) -> None:
    keys = {name: give_key(settings, name, UserRole.OPERATOR) for name in ("otto", "olga")}
    follow_accounts(settings, {"otto": UserRole.VIEWER})
    assert {name: key.role for name, key in read_keys(settings).items()} == {"otto": UserRole.VIEWER}
    assert identities(settings)["account-olga"]["actions"] == []
    assert keys["olga"].secret not in (settings.state_dir / "s3.json").read_text()
    follow_accounts(settings, {"otto": UserRole.VIEWER, "olga": UserRole.ADMIN})  # it is not given back
    assert "olga" not in read_keys(settings)


def test_the_key_for_links_of_a_worker_elsewhere_goes_with_its_account(settings: StackSettings) -> None:
    for name in ("gpu-7", "gpu-8", "gpu-9"):
        give_key(settings, name, UserRole.WORKER)
        give_key(settings, name, Role.LINKS)
    follow_accounts(settings, {"gpu-7": UserRole.WORKER, "gpu-8": UserRole.OPERATOR})
    assert {*read_keys(settings)} == {"gpu-7", "links/gpu-7", "gpu-8"}
    assert identities(settings)["links-gpu-7"]["actions"] == ACTIONS[Role.LINKS]
    assert identities(settings)["links-gpu-8"]["actions"] == []
    take_key(settings, "gpu-7")
    assert {*read_keys(settings)} == {"gpu-8"}


def test_the_key_of_a_triton_elsewhere_is_of_no_account(settings: StackSettings) -> None:
    made = give_key(settings, "gpu-7", Role.TRITON)
    follow_accounts(settings, {})
    take_key(settings, "gpu-7")
    assert read_keys(settings) == {"triton/gpu-7": made}
    assert identities(settings)["triton-gpu-7"]["actions"] == ACTIONS[Role.TRITON]
    take_key(settings, "gpu-7", Role.TRITON)
    assert identities(settings)["triton-gpu-7"]["actions"] == []


def test_a_key_that_was_taken_away_opens_nothing(settings: StackSettings) -> None:
    made = give_key(settings, "vera", UserRole.ADMIN)
    take_key(settings, "vera")
    take_key(settings, "nobody")
    entry = identities(settings)["account-vera"]
    assert entry["actions"] == []
    assert entry["credentials"][0]["secretKey"] != made.secret


def test_keys_outlive_the_stack_and_are_for_their_owner_alone(settings: StackSettings) -> None:
    made = give_key(settings, "vera", UserRole.VIEWER)
    (settings.state_dir / "s3.json").unlink()
    write_identities(settings)
    assert made.key in (settings.state_dir / "s3.json").read_text()
    for name in ("s3.json", "person-keys.json"):
        assert (settings.state_dir / name).stat().st_mode & 0o777 == 0o600


def test_a_store_elsewhere_has_its_own_keys(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    with pytest.raises(StudioError, match="Make the key there"):
        give_key(settings, "vera", UserRole.VIEWER)

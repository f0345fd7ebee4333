"""Keys of people for the object store, in the file that it reads."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import person_keys, supervisord
from infra.accounts.roles import UserRole
from infra.command_errors import StackError
from infra.identities import ACTIONS, VIEWING, WORKING_ELSEWHERE, Role
from infra.person_keys import Taken, follow_accounts, give_key, read_keys, take_key, write_identities
from infra.stack_settings import ROOT, StackSettings
from tasks.errors import StudioError
from tests.infra.accounts.database import free_port

REFUSED = b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
KILLED = """
import os, pathlib, signal, sys
from infra import person_keys
from infra.stack_settings import StackSettings
setattr(person_keys, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
person_keys.take_key(StackSettings(state_dir=pathlib.Path(sys.argv[1]), s3_port=int(sys.argv[3])), "vera")
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """A stack that does not run."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)  # of the stack of all tests, which has another port
    return StackSettings(state_dir=tmp_path, s3_port=free_port())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The services that were told to read their files again."""
    signalled: list[str] = []
    monkeypatch.setattr(supervisord, "signal_service", lambda _, name, signal: signalled.append(f"{name} {signal}"))
    return signalled


class Store(BaseHTTPRequestHandler):
    """In the place of the object store, which answers wrongly at no one's command: all get the answer of now."""

    status, body = 403, REFUSED

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answering(settings: StackSettings) -> Iterator[StackSettings]:
    """The stack with such a store."""
    with ThreadingHTTPServer(("127.0.0.1", settings.s3_port), Store) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield settings
        server.shutdown()
        thread.join()


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


def test_what_the_store_reads_is_compared_each_time(settings: StackSettings, told: list[str]) -> None:
    made = give_key(settings, "vera", UserRole.VIEWER)
    path = settings.state_dir / "s3.json"
    before = path.read_text()
    take_key(settings, "vera")
    path.write_text(before)  # as after a write that failed
    told.clear()
    follow_accounts(settings, {})
    assert made.secret not in path.read_text()
    assert told == ["object-store HUP"]
    follow_accounts(settings, {})
    assert told == ["object-store HUP"]


@pytest.mark.parametrize("line", ["_tell_store", "_require_refused", "asdict"])
def test_a_key_whose_taking_was_killed_is_taken_by_the_next_look_at_the_accounts(
    settings: StackSettings, told: list[str], line: str
) -> None:
    made = give_key(settings, "vera", UserRole.VIEWER)
    told.clear()
    arguments = [str(settings.state_dir), line, str(settings.s3_port)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert follow_accounts(settings, {}) is Taken.UNTRIED
    assert made.secret not in (settings.state_dir / "s3.json").read_text()
    assert told == ["object-store HUP"]
    assert read_keys(settings) == {}


def test_a_key_that_a_full_disk_kept_is_taken_when_there_is_room(settings: StackSettings, told: list[str]) -> None:
    """No disk is filled here: a folder in the place of the unfinished file fails the write, too."""
    made = give_key(settings, "vera", UserRole.VIEWER)
    (settings.state_dir / ".s3.json.part").mkdir()
    with pytest.raises(OSError, match=r"s3\.json"):
        follow_accounts(settings, {})
    assert "vera" in read_keys(settings)
    (settings.state_dir / ".s3.json.part").rmdir()
    told.clear()
    follow_accounts(settings, {})
    assert made.secret not in (settings.state_dir / "s3.json").read_text()
    assert (told, read_keys(settings)) == (["object-store HUP"], {})


def test_what_is_told_of_a_key_that_is_taken_is_what_the_store_answers(answering: StackSettings) -> None:
    give_key(answering, "vera", UserRole.VIEWER)
    assert take_key(answering, "vera") is Taken.REFUSED
    assert take_key(answering, "vera") is Taken.NOTHING
    assert take_key(answering, "nobody") is Taken.NOTHING


def test_of_a_store_that_does_not_answer_nobody_says_that_it_refuses(settings: StackSettings) -> None:
    give_key(settings, "vera", UserRole.VIEWER)
    assert take_key(settings, "vera") is Taken.UNTRIED
    assert identities(settings)["account-vera"]["actions"] == []


def test_a_key_that_the_store_takes_still_counts_until_it_does_not(
    answering: StackSettings, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    give_key(answering, "vera", UserRole.VIEWER)
    monkeypatch.setattr(person_keys, "_REFUSED_AFTER_S", 0.2)
    monkeypatch.setattr(Store, "status", 200)
    monkeypatch.setattr(Store, "body", b"<ListAllMyBucketsResult/>")
    told.clear()
    with pytest.raises(StackError, match="it takes it still, so the key counts as theirs"):
        take_key(answering, "vera")
    assert "vera" in read_keys(answering)
    monkeypatch.undo()
    assert take_key(answering, "vera") is Taken.REFUSED
    assert read_keys(answering) == {}


def test_a_store_that_was_not_told_is_told_by_the_next_look(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """supervisord is made up: it runs, and does not answer."""
    give_key(settings, "vera", UserRole.VIEWER)
    unreachable = settings.model_copy(update={"supervisor_port": free_port()})
    monkeypatch.setattr(supervisord, "process", lambda _: SimpleNamespace())
    with pytest.raises(StackError, match="Expected signal HUP to reach object-store"):
        take_key(unreachable, "vera")
    assert "vera" in read_keys(settings)


def test_a_store_elsewhere_has_its_own_keys(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    with pytest.raises(StudioError, match="Make the key there"):
        give_key(settings, "vera", UserRole.VIEWER)

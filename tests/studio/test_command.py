"""The command `studio`: its options, its exit codes, and its JSON, as a shell sees them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
import typer

from infra.stack_settings import StackSettings
from studio.cli import app
from studio.commands.options import merge_settings
from tests.paths import ROOT
from tests.tasks.dataset.archives import good, zipped

WITHOUT_JSON = {"demo"}  # a table to look at
COMMANDS = {
    command.name or str(command.callback and command.callback.__name__).replace("_", "-")
    for command in app.registered_commands
}


def studio(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "studio", *arguments]
    wide = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300, env=wide)


def test_every_command_has_json() -> None:
    for command in app.registered_commands:
        assert command.callback
        name = command.name or command.callback.__name__
        assert ("as_json" in command.callback.__annotations__) == (name not in WITHOUT_JSON), name


def test_each_target_of_make_that_is_a_command_calls_it() -> None:
    called = set(re.findall(r"\$\(STUDIO\) ([a-z-]+)", (ROOT / "Makefile").read_text()))
    assert (
        {"up", "down", "status", "check", "upload", "datasets", "models", "lineage", "diff", "logs", "demo"}
        <= called
        <= COMMANDS
    )


def test_help_takes_less_than_a_second() -> None:
    began = time.monotonic()
    done = studio("--help")
    assert done.returncode == 0
    assert time.monotonic() - began < 2  # alone it takes a third of a second
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], {"a": 1}),
        (["b=2"], {"a": 1, "b": 2}),
        (["training.patience=20", "training.seed=null"], {"a": 1, "training": {"patience": 20, "seed": None}}),
        (["merge.aliases={car: [Cars]}"], {"a": 1, "merge": {"aliases": {"car": ["Cars"]}}}),
        (["x.y.z=a=b"], {"a": 1, "x": {"y": {"z": "a=b"}}}),
    ],
)
def test_settings_are_put_in_their_place(settings: list[str], expected: dict[str, object]) -> None:
    assert merge_settings({"a": 1}, settings) == expected


@pytest.mark.parametrize("setting", ["", "=", "a", ".=1", "a.=1", "a.b=2", "c=[1", "c=!!python/object:os.system {}"])
def test_a_setting_of_another_form_is_named(setting: str) -> None:
    with pytest.raises(typer.BadParameter):
        merge_settings({"a": 1}, [setting])


def test_without_a_stack_the_exit_code_and_the_message_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL"):
        monkeypatch.delenv(name, raising=False)
    done = studio("datasets")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Start it with `studio up`" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert studio("train", "--no-such-option").returncode == 2


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / f"command-{uuid4().hex[:8]}.zip"
    path.write_bytes(zipped(good()))
    return path


def test_an_archive_is_uploaded_checked_and_listed(stack: StackSettings, archive: Path) -> None:  # noqa: ARG001
    uploaded = studio("upload", str(archive), "--json")
    assert json.loads(uploaded.stdout) == {"uploaded": [f"s3://datasets/{archive.name}"]}
    checked = studio("validate", archive.name, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["state"] == "Valid with warnings"
    assert f"checking {archive.name}" in checked.stderr
    (entry,) = json.loads(studio("datasets", "--search", archive.stem, "--json").stdout)["entries"]
    assert (entry["name"], entry["verdict"]) == (archive.name, "valid-with-warnings")
    assert archive.name in studio("datasets", "--search", archive.stem).stdout

    run = json.loads(checked.stdout)["run"]
    assert f"checking {archive.name}" in studio("logs", run).stdout
    assert any(line["text"] == f"checking {archive.name}" for line in json.loads(studio("logs", run, "--json").stdout))
    over = studio("cancel", run)
    assert (over.returncode, "to go on, found it Valid with warnings" in over.stderr) == (1, True)


def test_a_run_that_fails_gives_its_reason_and_exit_code_1(stack: StackSettings) -> None:  # noqa: ARG001
    absent = f"absent-{uuid4().hex[:8]}.zip"
    failed = studio("validate", absent, "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["state"] == "Failed"
    assert absent in failed.stderr
    refused = studio("train", "shapes", absent, "--epochs", "-3", "--json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "epochs" in refused.stderr


def test_a_run_is_not_awaited_if_nobody_wants_to(stack: StackSettings) -> None:  # noqa: ARG001
    started = studio("undeploy", f"nothing-{uuid4().hex[:8]}", "--no-wait", "--json")
    run = json.loads(started.stdout)
    assert (started.returncode, run["url"].endswith(run["run"])) == (0, True)


def test_models_and_predictions_are_listed(stack: StackSettings) -> None:  # noqa: ARG001
    assert "entries" in json.loads(studio("models", "--json").stdout)
    assert "entries" in json.loads(studio("predictions", "--json").stdout)
    absent = studio("models", "no-such-model")
    assert (absent.returncode, "none of this name" in absent.stderr) == (1, True)


def test_the_services_are_described(stack: StackSettings) -> None:
    assert studio("status").returncode == 0
    described = json.loads(studio("status", "--json").stdout)["services"]
    assert {each["health"] for each in described} == {"well"}
    assert json.loads(studio("open", "--json").stdout) == {"address": f"http://127.0.0.1:{stack.live_port}"}

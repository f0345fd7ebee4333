"""The command `studio`: its options, its exit codes, and its JSON, as a shell sees them."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
import typer
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Suspended

from infra.backup import last_backup
from infra.rotation import state as rotation
from infra.rotation.state import Rotation
from infra.stack_settings import StackSettings
from studio import Studio, StudioError
from studio.cli import app, main
from studio.commands import flows
from studio.commands.options import merge_settings
from studio.connection import connect
from studio.output import ExitCode
from tasks.orchestration import questions
from tests.paths import ROOT
from tests.prefect_runs import make_run
from tests.tasks.dataset.archives import good, zipped

WITHOUT_JSON = {"worker", "demo"}  # a table to look at
CLICK: Any = typer.main.get_command(app)
COMMANDS = set(CLICK.commands)


# The last two need the database alone.
WITHOUT_STACK = {
    "up",
    "down",
    "status",
    "demo",
    "check",
    "init",
    "logs",
    "backups",
    "restore",
    "upgrade",
    "rotate-keys",
    "users",
    "audit",
}
ARGUMENTS = {"delete-version": ("shapes", "1"), "clean-up": (), "upload": ("x.zip",)}


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """The command, in this process; the environment that it makes for itself goes with it."""
    mask = os.umask(0o077)
    connect.cache_clear()

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["studio", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    with patch.dict(os.environ):
        yield run
    connect.cache_clear()
    os.umask(mask)


def studio_process(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "studio", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)


def test_every_command_has_json() -> None:
    for command in app.registered_commands:
        assert command.callback
        name = command.name or command.callback.__name__
        assert ("as_json" in command.callback.__annotations__) == (name not in WITHOUT_JSON), name


def test_each_target_of_make_that_is_a_command_calls_it() -> None:
    called = set(re.findall(r"\$\(STUDIO\) ([a-z-]+)", (ROOT / "Makefile").read_text()))
    assert (
        {
            "up",
            "down",
            "status",
            "check",
            "upload",
            "import",
            "export",
            "register",
            "datasets",
            "models",
            "lineage",
            "diff",
            "logs",
            "demo",
        }
        <= called
        <= COMMANDS
    )


def test_help_takes_less_than_a_second() -> None:
    began = time.monotonic()
    done = studio_process("--help")
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


def test_the_docs_name_each_exit_code() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text().partition("## Exit codes")[2]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(ExitCode)


@pytest.mark.parametrize("command", sorted(COMMANDS - WITHOUT_STACK))
def test_without_a_stack_each_command_ends_with_the_code_of_a_service_that_is_away(
    studio: Command, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    required = [each for each in CLICK.commands[command].params if each.required]
    done = studio(command, *ARGUMENTS.get(command, [str(uuid4())] * len(required)))
    assert (done.returncode, done.stdout) == (ExitCode.AWAY, "")
    assert "Start it with `studio up`" in done.stderr


def test_a_service_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").touch()  # as a stack leaves it whose machine was switched off
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("STUDIO_S3_PORT", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    done = studio_process("datasets")
    assert (done.returncode, done.stdout) == (ExitCode.AWAY, "")
    assert "The object store failed" in done.stderr


def test_the_class_raises_one_kind_of_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    connect.cache_clear()
    with pytest.raises(StudioError, match="Start it with `studio up`") as error:
        Studio()
    assert error.value.transient


def test_weights_of_this_disk_are_uploaded_before_they_are_registered(
    studio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "old.pt"
    weights.touch()
    started: list[object] = []
    monkeypatch.setattr("studio.connection.connect", lambda: None)
    uploads: list[str] = []

    def upload(_: object, path: Path, replace: bool) -> str:
        uploads.append(f"{path.name}-{replace}")
        return uploads[-1]

    monkeypatch.setattr("infra.upload.upload_weights", upload)
    monkeypatch.setattr(flows, "_run", lambda _, __, parameters, *___, **____: started.append(parameters["weights"]))
    for arguments in ((str(weights),), (str(weights), "--replace"), ("yolo11n.pt",)):
        assert studio("register", "shapes", *arguments).returncode == 0
    refused = studio("register", "my shapes", str(weights))
    assert (refused.returncode, "my shapes" in refused.stderr) == (1, True)
    assert started == ["old.pt-False", "old.pt-True", "yolo11n.pt"]
    assert uploads == started[:2]
    monkeypatch.setattr("infra.upload.upload_weights", lambda *_, **__: "yolo11n.pt")
    assert "trainings from that name take them" in studio("register", "shapes", str(weights)).stderr.replace("\n", " ")


def test_an_unknown_option_is_a_usage_error(studio: Command) -> None:
    assert studio("train", "--no-such-option").returncode == 2


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / f"command-{uuid4().hex[:8]}.zip"
    path.write_bytes(zipped(good()))
    return path


@pytest.mark.usefixtures("stack")
def test_an_archive_is_uploaded_checked_listed_exported_and_imported(
    studio: Command, archive: Path, tmp_path: Path
) -> None:
    uploaded = studio("upload", str(archive), "--prefix", "command", "--bucket", "media", "--json")
    assert json.loads(uploaded.stdout) == {"uploaded": [f"s3://media/command/{archive.name}"]}
    uploaded = studio("upload", str(archive), "--json")
    assert json.loads(uploaded.stdout) == {"uploaded": [f"s3://datasets/{archive.name}"]}
    checked = studio("validate", archive.name, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["state"] == "Valid with warnings"
    assert f"checking {archive.name}" in checked.stderr
    (entry,) = json.loads(studio("datasets", "--search", archive.stem, "--json").stdout)["entries"]
    assert (entry["name"], entry["verdict"]) == (archive.name, "valid-with-warnings")
    assert archive.name in studio_process("datasets", "--search", archive.stem).stdout  # with a person's key alone

    coco = tmp_path / f"coco-{archive.name}"
    written = json.loads(studio("export", archive.name, "--to", str(coco), "--json").stdout)
    assert (written["written"], written["changes"]) == (str(coco), {})
    imported = studio("import", str(coco), "--json")
    assert imported.returncode == 0, imported.stderr
    (entry,) = json.loads(studio("datasets", "--search", f"sources/{coco.stem}", "--json").stdout)["entries"]
    assert (entry["name"], entry["verdict"]) == (f"sources/{coco.name}", "unchecked")

    again = studio("import", str(coco), f"again-{coco.name}", "--no-wait")  # the source is there already
    assert again.returncode == 0, again.stderr
    absent = studio("import", "no-such.zip")
    assert (absent.returncode, "found neither under 'no-such.zip'" in absent.stderr) == (1, True)

    run = json.loads(checked.stdout)["run"]
    of_worker, of_flow, *_ = studio("logs", run, "--service", "flow").stdout.splitlines()
    assert "carried out by worker" in of_worker
    assert of_flow.endswith(f" checking {archive.name}")
    listed = json.loads(studio("runs", "--flow", "validate-dataset", "--state", "completed", "--json").stdout)["runs"]
    assert [(each["about"], each["state"]) for each in listed if each["run"] == run] == [
        (archive.name, "Valid with warnings")
    ]
    told = json.loads(studio("logs", run, "--json").stdout)
    assert [line["service"] for line in told if line["message"] == f"checking {archive.name}"] == ["flow"]
    over = studio("cancel", run)
    assert (over.returncode, "to go on, found it Valid with warnings" in over.stderr) == (1, True)


@pytest.mark.usefixtures("stack")
def test_a_run_that_fails_gives_its_reason_and_exit_code_1(studio: Command) -> None:
    absent = f"absent-{uuid4().hex[:8]}.zip"
    failed = studio("validate", absent, "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["state"] == "Failed"
    assert failed.stderr.count(json.loads(failed.stdout)["message"]) == 1
    refused = studio("train", "shapes", absent, "--epochs", "-3", "--json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "epochs" in refused.stderr


def test_who_follows_a_pipeline_is_told_what_it_waits_for(
    studio: Command, client: SyncPrefectClient, deployment: UUID
) -> None:
    asks: State[None] = Suspended()
    asks.state_details.run_input_keyset = questions.KEYSET
    run = make_run(client, deployment, asks, model_name="shapes")
    question = json.dumps("**shapes version 3** has passed its gates.\n\nmore")
    client.create_flow_run_input(run, questions.KEYSET["description"], question)
    waits: State[None] = Suspended()
    waits.state_details.child_flow_run_id = run
    pipeline = make_run(client, deployment, waits)

    waiting = {listed["run"]: listed for listed in json.loads(studio("runs", "--waiting", "--json").stdout)["runs"]}
    assert str(pipeline) not in waiting
    listed = waiting[str(run)]
    assert listed["about"] == "shapes"
    assert listed["waits_for"] == "shapes version 3 has passed its gates."
    assert f"studio approve {run}" in studio("runs").stdout
    end = threading.Timer(3, client.set_flow_run_state, (pipeline, Cancelled()), {"force": True})
    end.start()
    followed = studio("logs", str(pipeline), "--follow")
    end.join()
    assert followed.returncode == 1
    (line,) = [line for line in followed.stderr.splitlines() if "waits for a person: shapes version 3 has" in line]
    assert all(text in line for text in ("/runs,", f"studio approve {run}", f"studio refuse {run}"))
    client.set_flow_run_state(run, Cancelled(), force=True)


def test_who_has_started_a_loop_is_told_where_to_review(
    studio: Command, client: SyncPrefectClient, deployment: UUID
) -> None:
    """Also who follows the loop: it is the review that says so."""
    message = f"Waits until there is an answer about 3 more images: http://127.0.0.1/reviews/{uuid4()}"
    asks: State[None] = Suspended(message=message)
    asks.state_details.pause_key = "front-page"
    review = make_run(client, deployment, asks, model_name="shapes")
    waits: State[None] = Suspended(message="Goes on when another run does.")
    waits.state_details.child_flow_run_id = review
    loop = make_run(client, deployment, waits)

    waiting = {listed["run"]: listed for listed in json.loads(studio("runs", "--waiting", "--json").stdout)["runs"]}
    assert str(loop) not in waiting
    listed = waiting[str(review)]
    assert (listed["waits_for"], listed["says"]) == (message, message)
    told = studio("runs").stdout
    for run in (review, loop):
        assert f"{run} waits for people: {message}" in told.splitlines()
    assert f"studio approve {review}" not in told
    end = threading.Timer(3, client.set_flow_run_state, (loop, Cancelled()), {"force": True})
    end.start()
    followed = studio("logs", str(loop), "--follow")
    end.join()
    assert f"waits for people: {message}" in followed.stderr.splitlines()
    client.set_flow_run_state(review, Cancelled(), force=True)


@pytest.mark.usefixtures("stack")
def test_a_run_is_not_awaited_if_nobody_wants_to(studio: Command) -> None:
    started = studio("undeploy", f"nothing-{uuid4().hex[:8]}", "--no-wait", "--json")
    run = json.loads(started.stdout)
    assert (started.returncode, run["url"].endswith(run["run"])) == (0, True)


@pytest.mark.usefixtures("stack")
def test_models_and_predictions_are_listed(studio: Command) -> None:
    assert "entries" in json.loads(studio("models", "--json").stdout)
    assert "entries" in json.loads(studio_process("predictions", "--json").stdout)  # with a person's key alone
    absent = studio("models", "no-such-model")
    assert (absent.returncode, "none of this name" in absent.stderr) == (1, True)


def test_the_services_are_described(stack: StackSettings, studio: Command) -> None:
    assert studio("status").returncode == 0
    described = json.loads(studio("status", "--json").stdout)
    assert {each["health"] for each in described["services"]} == {"well"}
    taken = datetime.now(UTC).replace(microsecond=0)
    last_backup.write(stack, "newest", Path("/mnt/backups"), taken)
    assert "last backup: newest in /mnt/backups, 0 h old" in studio("status").stdout
    last = json.loads(studio("status", "--json").stdout)["last_backup"]
    assert last == {"name": "newest", "folder": "/mnt/backups", "taken": f"{taken:%Y-%m-%dT%H:%M:%S}Z"}
    assert json.loads(studio("open", "--json").stdout) == {"address": f"http://127.0.0.1:{stack.live_port}"}


def test_keys_whose_rotation_has_not_ended_are_told(stack: StackSettings, studio: Command) -> None:
    told = "a rotation of the keys has not ended"
    assert told not in studio("status").stdout
    assert json.loads(studio("status", "--json").stdout)["rotates_keys"] is False
    rotation.write(stack.state_dir, Rotation(former={}, new={}))
    try:
        assert told in studio("status").stdout
        assert json.loads(studio("status", "--json").stdout)["rotates_keys"] is True
    finally:
        rotation.remove(stack.state_dir)

"""The live log as a part of the local stack: off unless it is asked for, remembered, known to who needs it alone."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra import stack, supervisord
from infra.command_errors import StackError
from infra.environment import inherited_environment, page_environment, worker_environment
from infra.services import triton
from infra.stack_settings import LIVE_LOG, StackSettings
from model_repository.predict.live_log import LiveLogSettings
from studio.cli import app


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of a stack that was never told of a live log."""
    for name in LIVE_LOG:
        # Set first, so that what a test sets is gone after it.
        monkeypatch.setenv(f"STUDIO_{name.upper()}", "")
        monkeypatch.delenv(f"STUDIO_{name.upper()}")
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    return tmp_path


def test_it_is_off_by_default_and_nobody_inherits_it_of_the_shell(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = StackSettings(state_dir=state)
    assert not [name for name in triton(settings).environment if name.startswith("STUDIO_LIVE_LOG")]
    assert LiveLogSettings.parse(triton(settings).environment) is None
    monkeypatch.setenv("STUDIO_LIVE_LOG_DIR", "/shared")
    assert not [name for name in inherited_environment(settings) if name.startswith("STUDIO_LIVE_LOG")]


def test_triton_and_the_worker_have_the_same_folder_and_nobody_else_knows_it(state: Path) -> None:
    settings = StackSettings(
        state_dir=state, live_log_dir="", live_log_share=0.5, live_log_mib=8, live_log_pictures=True
    )
    assert settings.live_log_environment == {}
    settings = settings.model_copy(update={"live_log_dir": state / "live-log"})
    expected = LiveLogSettings(state / "live-log", 0.5, 8 << 20, pictures=True)
    assert LiveLogSettings.parse(triton(settings).environment) == expected
    assert worker_environment(settings)["STUDIO_LIVE_LOG_DIR"] == str(state / "live-log")
    assert "STUDIO_LIVE_LOG_DIR" not in page_environment(settings)


@pytest.mark.parametrize("remembered", ["", "/elsewhere"])
@pytest.mark.parametrize("option", ["--live-log", "--no-live-log", None])
def test_up_is_told_with_or_without_it_or_remembers(
    state: Path, monkeypatch: pytest.MonkeyPatch, option: str | None, remembered: str
) -> None:
    StackSettings(live_log_dir=remembered).remember()
    given: list[Path | None] = []
    monkeypatch.setattr(stack, "up", lambda settings, _: given.append(settings.live_log_dir))
    done = CliRunner().invoke(app, ["up", *([option] if option else [])])
    assert done.exit_code == 0, done.output
    known = Path(remembered) if remembered else None
    assert given == [{"--live-log": known or state / "live-log", "--no-live-log": None, None: known}[option]]


@pytest.mark.parametrize(("running", "option"), [("", "--live-log"), ("/logs", "--no-live-log")])
def test_a_stack_that_runs_the_other_way_has_to_be_stopped_first(
    monkeypatch: pytest.MonkeyPatch, running: str, option: str
) -> None:
    StackSettings(live_log_dir=running).remember()
    monkeypatch.setattr(supervisord, "process", lambda _: object())
    done = CliRunner().invoke(app, ["up", option])
    assert done.exit_code != 0
    assert f"The stack is up with STUDIO_LIVE_LOG_DIR={running}, not" in str(done.exception or done.output)


def test_up_makes_the_folder_or_says_why_it_cannot(state: Path) -> None:
    """So that a log that is not there is a fault, and none to which nobody has written yet."""
    folder = state / "new" / "live-log"
    for _ in range(2):
        stack._make_live_log_folder(StackSettings(live_log_dir=folder))
        assert folder.stat().st_mode & 0o777 == 0o700
    (state / "file").write_text("")
    with pytest.raises(StackError, match=r"Expected a folder .* STUDIO_LIVE_LOG_DIR; found .*Not a directory"):
        stack._make_live_log_folder(StackSettings(live_log_dir=state / "file" / "live-log"))


def test_wrong_settings_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_LIVE_LOG_SHARE", "2")
    with pytest.raises(ValueError, match="live_log_share"):
        StackSettings.load()


def test_a_relative_folder_is_that_of_who_named_it(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.chdir(state)
    monkeypatch.setenv("STUDIO_LIVE_LOG_DIR", "logs")
    assert StackSettings.load().live_log_dir == Path(os.path.realpath(state)) / "logs"

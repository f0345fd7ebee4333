"""The example that trains, on the stack."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from infra import demo_data
from studio.connection import connect
from tests.paths import ROOT


def test_an_error_is_its_message_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["train", "cells.zip", "--model", "cells"])
    connect.cache_clear()
    with pytest.raises(SystemExit, match="Start it with `studio up`"):
        runpy.run_module("examples.train_on_your_zip", run_name="__main__")


@pytest.mark.heavy
@pytest.mark.usefixtures("stack")
def test_a_zip_is_checked_and_trained_and_a_model_that_finds_nothing_is_not_deployed(tmp_path: Path) -> None:
    (archive, _), _ = demo_data.generate(tmp_path)
    command = [sys.executable, "-m", "examples.train_on_your_zip", str(archive), "--model", "example-shapes"]
    command += ["--base-model", "yolo11n.yaml", "--epochs", "1", "--imgsz", "64"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert "shapes-a.zip" in done.stdout
    assert "example-shapes version 1" in done.stdout
    assert (done.returncode, "nothing was deployed" in done.stderr) == (1, True), done.stderr

"""The example that sends a picture, to a model that is served by the stack."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from examples.live_client import draw
from infra.stack_settings import StackSettings
from tasks.serving.served_model import ServedModel
from tests.paths import ROOT
from tests.tasks.serving.graphs import constant_graph, encoded, publish, rows, serve

SIZE = 64
MODEL = ServedModel(
    name="example-cells",
    version=1,
    task="detect",
    image_size=SIZE,
    class_names=("red", "white"),
    run_id="no-run",
)
GREY = np.full((96, 128, 3), 90, np.uint8)


def test_boxes_are_drawn_into_the_picture() -> None:
    drawn = draw(encoded(GREY), {"boxes": [[20, 20, 100, 80]], "labels": ["red"]})
    changed = np.abs(np.asarray(cv2.imdecode(np.frombuffer(drawn, np.uint8), 1)).astype(int) - 90).max(axis=2) > 60
    assert changed[50, 20]
    assert changed[80, 60]
    assert not changed[50, 60]


def test_a_picture_that_cannot_be_drawn_on_is_named() -> None:
    with pytest.raises(SystemExit, match="leave out --draw"):
        draw(b"text", {"boxes": [], "labels": []})


def run(stack: StackSettings, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "photo.jpg").write_bytes(encoded(GREY))
    command = [sys.executable, str(ROOT / "examples" / "live_client.py"), "photo.jpg", *options]
    command += ["--url", f"http://127.0.0.1:{stack.live_port}"]
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_objects_of_a_picture_are_printed_and_drawn(stack: StackSettings, tmp_path: Path) -> None:
    publish(MODEL, constant_graph(SIZE, {"detections": rows((8, 12, 40, 44, 0.9, 1), (44, 16, 60, 40, 0.3, 0))}))
    serve([MODEL], champion=1)
    done = run(stack, tmp_path, "--model", MODEL.name, "--confidence", "0.4", "--draw", "seen.jpg")
    assert done.returncode == 0, done.stderr
    first, *objects = done.stdout.splitlines()
    assert first.startswith("example-cells version 1, ")
    assert objects == ["0.90  white  [16, 8, 80, 72]"]
    assert np.asarray(cv2.imread(str(tmp_path / "seen.jpg"))).shape == GREY.shape


def test_a_model_that_is_not_served_is_named(stack: StackSettings, tmp_path: Path) -> None:
    done = run(stack, tmp_path, "--model", "stranger")
    assert done.returncode == 1
    assert "expected a model that is served" in done.stderr

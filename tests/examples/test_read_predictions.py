"""The example that reads results, on a folder as a run leaves it."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.inference.results.chunk_results import merge_chunk_results
from tests.paths import ROOT
from tests.tasks.inference.results.examples import model, picture
from tests.tasks.inference.results.test_other_tools import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run over an image with three detections, one without any, and a frame of a video."""
    folder = tmp_path / "run"
    pictures = picture(0, 1, 1), picture(source="b.jpg"), picture(0, source="v.mp4", frame=5)
    merge_chunk_results([run(folder, model(), *pictures)], folder)
    monkeypatch.setenv("PREDICTIONS", str(folder))
    return folder


def test_detections_are_counted_and_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(ROOT / "examples" / "read_predictions.py"))
    assert names["table"].groupby("class_name").size().to_dict() == {"red": 2, "white": 2}
    drawn = sorted(folder.glob("drawn-*.jpg"))
    assert [np.asarray(cv2.imread(str(path))).shape for path in drawn] == [(64, 128, 3)] * 2
    printed = capsys.readouterr().out
    assert "3 detections drawn" in printed
    assert "1 detections drawn" in printed


def test_rows_become_supervisions_detections(folder: Path) -> None:
    names = runpy.run_path(str(ROOT / "examples" / "read_predictions.py"))
    table = names["table"]
    detections = names["to_detections"](table[table["source"] == "a.jpg"])
    assert detections.xyxy.tolist() == [[10, 20, 40, 60], [11, 20, 41, 60], [12, 20, 42, 60]]
    assert detections.class_id is not None
    assert detections.class_id.tolist() == [0, 1, 1]
    assert detections["class_name"].tolist() == ["red", "white", "white"]
    assert folder.is_dir()

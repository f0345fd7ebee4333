"""How a monitoring ends, beside a reference and a window that are given; with real ones: tests/flows."""

import inspect
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from flows import monitor_model as story
from tasks.monitoring.reference import Reference
from tasks.monitoring.window import Window
from tasks.parameters import MonitoringParams
from tasks.tracked_monitoring import publication, references, windows
from tasks.tracking import registry
from tasks.tracking.registry import ModelVersion
from tests.tasks.monitoring.test_judgement import found
from tests.tasks.monitoring.test_score_estimate import CLASSES, reference

VERSION = ModelVersion(name="cats", version=1, run_id="", task="detect", image_size=64, class_names=("cat", "dog"))


@pytest.mark.parametrize(
    ("validated", "answered", "name", "message"),
    [
        (100, 80, "Drifted", "image size drifted"),
        (16, 80, "Too few images", "it has 16 validation images, and 50 are needed"),
        (16, 12, "Nothing new", "cats version 1 has answered too few images: 12 of 50 images in 7 days"),
    ],
)
def test_a_monitoring_that_could_not_compare_does_not_end_as_if_all_were_well(
    validated: int, answered: int, name: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen, known = np.arange(validated), reference()
    corrupted = {corruption: images.select(chosen) for corruption, images in known.corrupted.items()}
    few = Reference(clean=known.clean.select(chosen), corrupted=corrupted)
    window = Window(found=tuple(found(answered)), least=np.full(CLASSES, 0.25), runs=1)
    monkeypatch.setattr(story, "scratch_folder", lambda _: nullcontext(tmp_path))
    monkeypatch.setattr(registry, "find_version", lambda *_: VERSION)
    monkeypatch.setattr(windows, "read_window", lambda *_: window)
    monkeypatch.setattr(windows, "embed", lambda *_: window)
    monkeypatch.setattr(references, "find_reference", lambda *_: few)
    monkeypatch.setattr(publication, "publish", lambda *_: None)
    state = inspect.unwrap(story.monitor_model.fn)("cats", MonitoringParams())
    assert state.name == name
    assert message in str(state.message)

"""How a monitoring ends, beside a reference and a window that are given; with real ones: tests/flows."""

import inspect
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize(
    ("validated", "answered", "told"),
    [
        (100, 80, ("Drifted", "image size drifted")),
        (16, 80, ("Too few images", "it has 16 validation images, and 50 are needed")),
        (16, 12, ("Too few images", "cats version 1 has answered too few images: 12 of 50 images in 7 days")),
    ],
)
def test_a_monitoring_that_could_not_compare_does_not_end_as_if_all_were_well(
    validated: int, answered: int, told: tuple[str, str], is_kept: bool, monkeypatch: Any, tmp_path: Path
) -> None:
    """And what takes minutes of prediction is made only if it can be compared with."""
    chosen, known = np.arange(validated), reference()
    corrupted = {corruption: images.select(chosen) for corruption, images in known.corrupted.items()}
    few = Reference(clean=known.clean.select(chosen), corrupted=corrupted)
    window = Window(found=tuple(found(answered)), least=np.full(CLASSES, 0.25), runs=1)
    made: list[Reference] = []

    def make(*_: object) -> Reference:
        made.append(few)
        return few

    monkeypatch.setattr(story, "scratch_folder", lambda _: nullcontext(tmp_path))
    monkeypatch.setattr(registry, "find_version", lambda *_: VERSION)
    monkeypatch.setattr(windows, "read_window", lambda *_: window)
    monkeypatch.setattr(windows, "embed", lambda *_: window)
    monkeypatch.setattr(references, "find_reference", lambda *_: few if is_kept else None)
    monkeypatch.setattr(references, "fetch_sample", lambda *_: SimpleNamespace(images=range(validated)))
    monkeypatch.setattr(references, "make_reference", make)
    monkeypatch.setattr(publication, "publish", lambda *_: None)
    state = inspect.unwrap(story.monitor_model.fn)("cats", MonitoringParams())
    assert state.name == told[0]
    assert told[1] in str(state.message)
    assert bool(made) == (validated >= 50 and not is_kept)

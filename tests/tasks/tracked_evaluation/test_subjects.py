"""What several versions are evaluated on is made once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.evaluation import steps
from tasks.parameters import EvaluationParams
from tasks.tracked_evaluation import subjects
from tasks.tracking import registry
from tasks.tracking.registry import ModelVersion
from tests.tasks.evaluation.test_version_evaluation import CLASSES, perfect, unpacked


def subject(number: int, image_size: int) -> subjects.Subject:
    version = ModelVersion(
        name="m", version=number, run_id="", task="detect", image_size=image_size, class_names=CLASSES
    )
    return subjects.Subject(version=version, digests=frozenset())


def test_versions_of_one_image_size_share_the_corrupted_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = unpacked(tmp_path, "detect")
    made: Counter[int] = Counter()

    def corrupt(images: Any, count: int, side: int, *_: object) -> Any:
        made[side] += 1
        return replace(images, images=images.images[:count] * 46)

    monkeypatch.setattr(steps, "corrupt_images", corrupt)
    monkeypatch.setattr(steps, "predict", lambda images, *_: perfect(images, "detect"))
    monkeypatch.setattr(registry, "fetch_weights", lambda *_: tmp_path)
    asked = [subject(1, 64), subject(2, 96), subject(3, 64)]
    with disable_run_logger():
        found = subjects.evaluate_subjects(asked, data, EvaluationParams(corrupted_images=2), tmp_path)
    assert [(each.version, each.robustness and each.robustness.images) for each in found] == [(1, 2), (2, 2), (3, 2)]
    assert made == {64: 1, 96: 1}

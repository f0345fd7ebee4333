"""What several versions are evaluated on is made once, and what a version has learnt is known."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.errors import StudioError
from tasks.evaluation import steps
from tasks.parameters import EvaluationParams
from tasks.tracked_evaluation import out_of_fold, subjects
from tasks.tracking import registry
from tasks.tracking.registry import ModelVersion
from tasks.tracking.trained_versions import Ancestry
from tests.tasks.evaluation.test_version_evaluation import CLASSES, perfect, unpacked

NOTHING = Ancestry(archives={}, base_model="yolo11n.pt")


def subject(number: int, image_size: int, ancestry: Ancestry = NOTHING) -> subjects.Subject:
    version = ModelVersion(
        name="m", version=number, run_id="", task="detect", image_size=image_size, class_names=CLASSES
    )
    return subjects.Subject(version=version, ancestry=ancestry)


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


@pytest.mark.parametrize(
    ("archives", "learnt"),
    [
        ({"a.zip": {"d1"}}, True),
        ({"renamed.zip": {"d0", "d1"}}, True),
        ({"a.zip": {"its bytes before a label was mended"}}, True),
        ({"b.zip": {"d2"}}, False),
    ],
)
def test_a_version_has_learnt_an_archive_by_its_name_or_its_bytes(
    tmp_path: Path, archives: dict[str, set[str]], learnt: bool
) -> None:
    data = unpacked(tmp_path, "detect")
    kept = {name: frozenset(digests) for name, digests in archives.items()}
    judge = subject(1, 64, Ancestry(archives=kept, base_model=""))
    assert judge.trained_on(data) == (["a.zip"] if learnt else [])


@pytest.mark.parametrize("base", ["", "models:/m/1", "models:/m@champion"])
def test_folds_begin_with_no_version(base: str) -> None:
    judge = subject(2, 64, Ancestry(archives={}, base_model=base))
    with pytest.raises(StudioError, match="Expected a base model of m version 2 that has seen no archive"):
        out_of_fold.find_unlearnt_base(judge)
    assert out_of_fold.find_unlearnt_base(subject(2, 64)) == "yolo11n.pt"

"""The same evaluation has one key, and whatever might change its scores makes another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.training.evaluation_key import evaluation_key
from tasks.training.job import EvaluationJob, EvaluationTarget


def written(folder: Path) -> tuple[EvaluationTarget, EvaluationJob]:
    for split, content in (("images", b"pixels"), ("labels", b"0 0.5 0.5 0.1 0.1")):
        (folder / "view" / split / "val").mkdir(parents=True)
        (folder / "view" / split / "val" / f"a.{'jpg' if split == 'images' else 'txt'}").write_bytes(content)
    data = folder / "view" / "data.yaml"
    data.write_text("names: {0: cat}")
    (folder / "best.pt").write_bytes(b"weights")
    target = EvaluationTarget(weights=folder / "best.pt", data=data, image_size=64)
    return target, EvaluationJob(subjects=(target,), task="detect", folder=folder, batch=8)


def test_the_same_files_elsewhere_have_the_same_key(tmp_path: Path) -> None:
    """Links count as what they point to, and what Ultralytics writes beside the labels not at all."""
    first = written(tmp_path / "a")
    second = written(tmp_path / "b")
    image = tmp_path / "b" / "view" / "images" / "val" / "a.jpg"
    image.unlink()
    image.symlink_to(tmp_path / "a" / "view" / "images" / "val" / "a.jpg")
    (tmp_path / "b" / "view" / "labels" / "val.cache").write_bytes(b"other")
    assert evaluation_key(*first) == evaluation_key(*second)


@pytest.mark.parametrize("file", ["best.pt", "view/data.yaml", "view/images/val/a.jpg", "view/labels/val/a.txt"])
def test_another_byte_is_another_key(tmp_path: Path, file: str) -> None:
    asked = written(tmp_path)
    before = evaluation_key(*asked)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes() + b" ")
    assert evaluation_key(*asked) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda target, job: (replace(target, image_size=96), job),
        lambda target, job: (target, replace(job, batch=4)),
        lambda target, job: (target, replace(job, device="0")),
        lambda target, job: (target, replace(job, task="segment")),
    ],
)
def test_another_setting_is_another_key(
    tmp_path: Path,
    change: Callable[[EvaluationTarget, EvaluationJob], tuple[EvaluationTarget, EvaluationJob]],
) -> None:
    target, job = written(tmp_path)
    assert evaluation_key(*change(target, job)) != evaluation_key(target, job)


def test_an_image_more_or_under_another_name_is_another_key(tmp_path: Path) -> None:
    asked = written(tmp_path)
    keys = {evaluation_key(*asked)}
    folder = tmp_path / "view" / "images" / "val"
    (folder / "b.jpg").write_bytes(b"pixels")
    keys.add(evaluation_key(*asked))
    (folder / "a.jpg").unlink()
    keys.add(evaluation_key(*asked))
    assert len(keys) == 3

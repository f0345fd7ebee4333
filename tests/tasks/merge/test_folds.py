"""The folds of an archive: each image in one, related images in the same, and a dataset for each to train on."""

from collections import Counter
from pathlib import Path

import pytest

from tasks.merge.folds import plan_folds
from tasks.merge.steps import MergeError, plan_archives, write_merge
from tasks.merge.yolo_writer import list_images
from tasks.parameters import MergePolicy
from tests.tasks.merge.archives import Entries, checked, dataset, picture, row, tree

COUNT = 3


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_each_image_is_in_one_fold_and_trained_on_in_the_others(tmp_path: Path, task: str) -> None:
    (archive,) = checked(tmp_path, tree(1) if task == "classify" else dataset(1, task=task))
    classes = {image: Counter[str | None](["cat"]) for image in archive.images}
    plan = plan_archives.fn([archive], MergePolicy())
    folds = plan_folds.fn(archive, plan, classes, (), COUNT, 0)
    assert sorted(image for fold in folds for image in fold.images) == sorted(archive.images)
    assert [len(fold.images) for fold in folds] == [2, 2, 2]
    for number, fold in enumerate(folds):
        written = write_merge.fn([archive], fold.plan, tmp_path / str(number))
        assert {split: len(list_images(written.data, written.task, split)) for split in ("train", "val")} == {
            "train": 4,
            "val": 2,
        }
        val = {path.read_bytes() for path in list_images(written.data, written.task, "val")}
        assert len(val & {path.read_bytes() for path in list_images(written.data, written.task, "train")}) == 0
    assert folds == plan_folds.fn(archive, plan, classes, (), COUNT, 0)


def test_images_of_a_group_and_copies_are_in_one_fold(tmp_path: Path) -> None:
    copies: Entries = {"images/train/copy.jpg": picture(1), "labels/train/copy.txt": row(0, 1)}
    (archive,) = checked(tmp_path, dataset(1, changes=copies))
    classes = {image: Counter[str | None](["cat"]) for image in archive.images}
    plan = plan_archives.fn([archive], MergePolicy())
    for seed in range(5):
        folds = plan_folds.fn(archive, plan, classes, ("train/{group}.jpg",), COUNT, seed)
        assert any({"images/train/0.jpg", "images/train/copy.jpg"} <= fold.images for fold in folds)
    folds = plan_folds.fn(archive, plan, classes, ("{group}/*.jpg",), COUNT, 0)
    assert sorted(len(fold.images) for fold in folds) == [2, 5]
    with pytest.raises(MergeError, match="Expected images that make two folds, found all are alike"):
        plan_folds.fn(archive, plan, {"images/train/0.jpg": Counter()}, (), COUNT, 0)

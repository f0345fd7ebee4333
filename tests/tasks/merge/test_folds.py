"""The folds of an archive: each image in one, related images in the same, and a dataset for each to train on."""

from collections import Counter
from pathlib import Path

import pytest

from tasks.dataset.label_origins import LABEL_ORIGINS, pack_label_origins
from tasks.errors import StudioError
from tasks.evaluation.labelled_images import ALL_SPLITS, unpack_split
from tasks.merge.folds import plan_folds
from tasks.merge.pseudo_labelled_file import read_pseudo_labelled
from tasks.merge.steps import MergeError, plan_archives, write_merge
from tasks.merge.written_files import list_images
from tasks.parameters import MergePolicy
from tests.tasks.merge.archives import Entries, checked, dataset, picture, row, tree
from tests.tasks.validation.sound import by_model

COUNT = 3
TRAIN = [f"images/train/{at}.jpg" for at in range(4)]


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


def test_images_that_are_not_judged_are_in_no_fold(tmp_path: Path) -> None:
    """Those that a model has labelled: what is taught by a model says nothing against its labels."""
    made = TRAIN[:2]
    origins = pack_label_origins(by_model(image, row=None) for image in made)
    (archive,) = checked(tmp_path, dataset(1, changes={LABEL_ORIGINS: origins}))
    judged = unpack_split(archive, ALL_SPLITS, tmp_path / "images")
    classes = {image.name: Counter[str | None](["cat"]) for image in judged.images}
    assert set(classes) == set(archive.images) - set(made)
    assert judged.pseudo_labelled == len(made)
    for number, fold in enumerate(
        plan_folds.fn(archive, plan_archives.fn([archive], MergePolicy()), classes, (), 2, 0)
    ):
        written = write_merge.fn([archive], fold.plan, tmp_path / str(number))
        assert written.images == {"train": 2, "val": 2}
        assert not read_pseudo_labelled(written.data).prefixes
        assert not any(sample.image in made for sample in fold.plan.splits[0]["train"])
    (archive,) = checked(tmp_path, dataset(1, changes={LABEL_ORIGINS: pack_label_origins(map(by_model, TRAIN))}))
    with pytest.raises(StudioError, match="labels of a person in split train"):
        unpack_split(archive, "train", tmp_path / "none")

"""What Ultralytics leaves out of a merged dataset ends the run, with the files' names, their archive and the reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prefect.logging import disable_run_logger

from tasks.merge import steps as merge_steps
from tasks.merge.manifest import read_manifest
from tasks.merge.written_files import label_path, list_images
from tasks.parameters import TrainingParams
from tasks.training import steps as training_steps
from tasks.training.attempts import TrainingError
from tasks.training.job import EvaluationTarget
from tasks.training.trainer.loader_check import LostDataError, explain_lost_data, require_all_loaded
from tests.benchmarks.archives import encode
from tests.tasks.merge.archives import Entries, built, dataset, merge, tree

CPU = TrainingParams(device="cpu", epochs=1, imgsz=64, batch=8)
TASKS = ("detect", "segment", "pose", "obb", "classify")


@pytest.fixture(autouse=True)
def _no_run() -> Iterator[None]:
    with disable_run_logger():
        yield


def archive(task: str, first: int) -> Entries:
    return tree(first) if task == "classify" else dataset(first, task=task)


def damage(image: Path) -> None:
    """A picture that every decoder takes, and Ultralytics does not."""
    image.write_bytes(encode(np.zeros((8, 8, 3), np.uint8)))


def negate(image: Path) -> None:
    label = label_path(image)
    class_id, _, *rest = label.read_text().split()
    label.write_text(" ".join([class_id, "-0.5", *rest]))


@pytest.mark.parametrize("task", TASKS)
def test_what_a_merge_writes_is_loaded_as_its_manifest_says(tmp_path: Path, task: str) -> None:
    whole = merge(tmp_path, archive(task, 0), archive(task, 6), gold=archive(task, 12))[1]
    few = merge_steps.write_smoke_test_subset.fn(whole, tmp_path / "few", 4)
    view = merge_steps.write_relabelled_split.fn(whole.data, task, whole.class_names, ("dog", "ox"), tmp_path / "view")
    assert whole.gold is not None
    for data in (whole.data, whole.gold, few, view):
        for split in ("train", "val"):
            require_all_loaded(built(data, task, split), data, task, split)
    assert {split: tally.images for split, tally in read_manifest(whole.data).items()} == {"train": 8, "val": 4}
    assert read_manifest(whole.gold)["val"].images == 6
    assert read_manifest(few)["train"].images == 4
    assert read_manifest(view)["val"].rows == {0: 2}


@pytest.mark.parametrize(
    ("task", "change", "reason"),
    [
        ("detect", damage, r"image size \(8, 8\) <10 pixels"),
        ("classify", damage, r"image size \(8, 8\) <10 pixels"),
        ("segment", negate, "negative label values"),
        ("pose", negate, "negative label values"),
        ("obb", negate, "negative label values"),
    ],
)
def test_what_is_not_loaded_is_named_with_its_archive_and_the_reason(
    tmp_path: Path, task: str, change: Callable[[Path], None], reason: str
) -> None:
    whole = merge(tmp_path, archive(task, 0), archive(task, 6))[1]
    lost = list_images(whole.data, task, "train")[-1]
    change(lost)
    name = "train/dog/3.jpg" if task == "classify" else "images/train/3.jpg"
    with pytest.raises(
        LostDataError, match=rf"8 images with 8 labels; found .*'{name}' of archive 'b\.zip': .*{reason}"
    ):
        require_all_loaded(built(whole.data, task, "train"), whole.data, task, "train")
    require_all_loaded(built(whole.data, task, "val"), whole.data, task, "val")


@pytest.mark.parametrize("which", ["the merge", "gold", "a view"])
@pytest.mark.parametrize("task", ["detect", "classify"])
def test_where_nothing_is_left_the_files_are_named_too(tmp_path: Path, task: str, which: str) -> None:
    whole = merge(tmp_path, archive(task, 0), gold=archive(task, 6))[1]
    assert whole.gold is not None
    data, images, name = whole.data, 2, "a"
    if which == "gold":
        data, images, name = whole.gold, 6, "b"
    elif which == "a view":
        data = merge_steps.write_relabelled_split.fn(
            whole.data, task, whole.class_names, whole.class_names, tmp_path / "view"
        )
    for image in list_images(data, task, "val"):
        damage(image)

    def get_dataloader() -> None:
        raise RuntimeError("No valid images found in /scratch/labels/val.cache")

    sentence = rf"{images} images with {images} labels; found 0 images with 0 labels.*'{name}\.zip'"
    with pytest.raises(LostDataError, match=sentence), explain_lost_data(data, task):
        get_dataloader()


def test_other_failures_stay_what_they_are(tmp_path: Path) -> None:
    whole = merge(tmp_path, archive("detect", 0))[1]
    with pytest.raises(RuntimeError, match="out of memory"), explain_lost_data(whole.data, "detect"):
        raise RuntimeError("out of memory")


SENTENCE = r"Expected Ultralytics to load all of split val .*'images/val/4\.jpg' of archive 'a\.zip'"


def damage_val(whole: merge_steps.MergedDataset) -> None:
    damage(list_images(whole.data, "detect", "val")[0])


@pytest.mark.heavy
def test_the_rehearsal_ends_with_that_sentence(tmp_path: Path) -> None:
    whole = merge(tmp_path, archive("detect", 0))[1]
    damage_val(whole)
    few = merge_steps.write_smoke_test_subset.fn(whole, tmp_path / "few")
    job = training_steps.training_job(few, "detect", "yolo11n.yaml", CPU, tmp_path / "rehearsal")
    with pytest.raises(TrainingError, match=f"The rehearsal on a few images failed.*{SENTENCE}"):
        training_steps.run_smoke_test.fn(job, CPU)


@pytest.mark.heavy
def test_an_evaluation_ends_with_that_sentence(tmp_path: Path) -> None:
    whole = merge(tmp_path, archive("detect", 0))[1]
    few = merge_steps.write_smoke_test_subset.fn(whole, tmp_path / "few")
    job = training_steps.training_job(few, "detect", "yolo11n.yaml", CPU, tmp_path / "rehearsal")
    weights = training_steps.run_smoke_test.fn(job, CPU).weights
    damage_val(whole)
    with pytest.raises(TrainingError, match=SENTENCE):
        training_steps.evaluate.fn(
            [EvaluationTarget(weights=weights, data=whole.data, image_size=64)], "detect", CPU, tmp_path
        )

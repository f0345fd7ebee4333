"""Which labels look wrong: the rule of each kind, the ranking, and what a search leaves."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.dataset.findings import Verdict
from tasks.evaluation import label_errors
from tasks.evaluation.label_error_page import (
    JudgedLabels,
    label_error_markdown,
    label_error_page,
    label_error_sentence,
    window,
    write_review_archive,
)
from tasks.evaluation.label_errors import LabelError, find_label_errors
from tasks.evaluation.labelled_images import ALL_SPLITS, unpack_split
from tasks.evaluation.matching import match
from tasks.evaluation.overlaps import ComparedImage, compare_image
from tasks.evaluation.version_evaluation import compare_images
from tasks.validation.dataset_check import inspect_dataset
from tests.tasks.dataset.archives import policy
from tests.tasks.evaluation.pictures import detections
from tests.tasks.evaluation.test_version_evaluation import HOSTILE, perfect, unpacked
from tests.tasks.merge.archives import checked, dataset, tree

BOX = (100, 100, 200, 200)
FAR = (220, 220, 300, 300)


def compared(labels: Any, classes: Sequence[int], found: Any, found_classes: Any, scores: Any) -> ComparedImage:
    return compare_image(detections(labels, classes), detections(found, found_classes, scores), "detect")


def suspect(images: Sequence[ComparedImage], min_score: float) -> list[LabelError]:
    return find_label_errors(images, match(images), min_score)


def well_found(count: int = 20) -> list[ComparedImage]:
    """Images in which the labels of both classes are found where they are."""
    return [compared([BOX, FAR], [0, 1], [BOX, FAR], [0, 1], [0.95, 0.9]) for _ in range(count)]


@pytest.mark.parametrize(
    ("kind", "labels", "classes", "found", "found_classes"),
    [
        ("missing", [], [], [BOX], [0]),
        ("spurious", [BOX], [0], [], []),
        ("swapped", [BOX], [1], [BOX], [0]),
        ("misplaced", [(130, 130, 230, 230)], [0], [BOX], [0]),  # overlap 0.32
        ("misplaced", [(100, 100, 200, 155)], [0], [BOX], [0]),  # overlap 0.55: found, but not as others are
        ("spurious", [BOX, (102, 100, 202, 200)], [0, 0], [BOX], [0]),  # labelled twice
    ],
)
def test_a_label_looks_wrong_in_its_way(
    kind: str, labels: Any, classes: list[int], found: Any, found_classes: list[int]
) -> None:
    wrong = compared(labels, classes, found, found_classes, [0.9] * len(found))
    (error,) = suspect([*well_found(), wrong], 0.3)
    assert (error.kind, error.image) == (kind, 20)
    assert error.score > 0.6
    assert (error.label is None, error.detection is None) == (kind == "missing", kind == "spurious")


@pytest.mark.parametrize(
    ("second", "class_id"),
    [
        (BOX, 1),  # found as another class, too
        ((160, 100, 260, 200), 0),  # a part of it found again, overlap 0.25
        ((100, 100, 200, 140), 1),  # a part of it found as another class, overlap 0.4
    ],
)
def test_labels_that_are_found_do_not_look_wrong(second: Any, class_id: int) -> None:
    again = compared([BOX], [0], [BOX, second], [0, class_id], [0.95, 0.55])
    assert suspect([*well_found(), again], 0.3) == []


def test_what_is_found_on_a_spurious_label_is_shown() -> None:
    weak = compared([BOX, FAR], [0, 1], [BOX, FAR, FAR], [0, 1, 0], [0.2, 0.1, 0.15])
    errors = suspect([*well_found(), weak], 0.3)
    assert [(error.kind, error.label, error.detection) for error in errors] == [("spurious", 1, 2), ("spurious", 0, 0)]


def test_labels_that_lie_as_those_of_their_class_do_not_look_wrong() -> None:
    loose = [compared([BOX], [0], [(100, 100, 200, 165 + 10 * (at % 3))], [0], [0.9]) for at in range(30)]
    assert suspect(loose, 0.3) == []


def test_a_label_that_nothing_like_it_is_found_of_does_not_look_wrong() -> None:
    """A model that finds no small object says nothing about labels of small objects."""
    small = [compared([BOX, (10, 10, 14, 14)], [0, 0], [BOX], [0], [0.9]) for _ in range(60)]
    assert suspect(small, 0.3) == []


def test_what_is_too_unsure_is_compared_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "box_iou_matrix", None)  # a detector finds hundreds of them in an image
    unsure = compared([], [], [BOX, FAR], [0, 1], [0.29, 0.2])
    assert suspect([*well_found(), unsure], 0.3) == []


def test_an_object_found_as_two_classes_is_one_suspicion_and_the_surest_stands_first() -> None:
    twice = compared([], [], [BOX, BOX], [1, 0], [0.8, 0.5])
    weak = compared([], [], [BOX], [0], [0.6])
    errors = suspect([*well_found(), weak, twice], 0.3)
    assert [(error.kind, error.image, error.detection) for error in errors] == [("missing", 21, 0), ("missing", 20, 0)]


def test_what_is_labelled_with_another_class_is_not_missing_too() -> None:
    errors = suspect([*well_found(), compared([BOX], [1], [BOX], [0], [0.9])], 0)
    assert [error.kind for error in errors if error.image == 20] == ["swapped"]


def test_a_place_counts_labels_that_are_ignored() -> None:
    points = np.array([[[120, 120, 0]], [[250, 250, 2]]], np.float32)
    labels = detections([BOX, FAR], [0, 0], keypoints=points)
    nothing = detections(np.zeros((0, 4)), [], [], keypoints=np.zeros((0, 1, 3), np.float32))
    found = detections([FAR], [0], [0.9], keypoints=points[1:])
    images = [*(compare_image(labels, found, "pose") for _ in range(20)), compare_image(labels, nothing, "pose")]
    (error,) = suspect(images, 0.3)
    assert (error.kind, error.label) == ("spurious", 1)


def judged(folder: Path, task: str) -> JudgedLabels:
    """An archive whose first label has another class than what is found."""
    data = unpacked(folder, task)
    first = data.images[0]
    wrong = replace(
        first,
        rows=tuple(row._replace(class_id=1) for row in first.rows),
        class_id=None if first.class_id is None else 1,
    )
    found = perfect(data, task)
    changed = replace(data, images=(wrong, *data.images[1:]))
    images = compare_images(task, data.class_names, changed, found)
    return JudgedLabels(data=changed, images=images, errors=suspect(images, 0.3), most=1, map50=0.9)


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose", "classify"])
def test_the_archive_for_review_has_the_labels_and_the_suspicions(tmp_path: Path, task: str) -> None:
    found = judged(tmp_path, task)
    write_review_archive(found, tmp_path / "review.zip", {"model": "m"})
    with zipfile.ZipFile(tmp_path / "review.zip") as archive:
        told = json.loads(archive.read("provenance.json"))
        ((entry, source),) = told["images"].items()
        content = archive.read(entry)
        rows = [] if task == "classify" else archive.read("labels/val/0.txt").decode().split()
    (error,) = told["label_errors"]
    name = found.data.images[0].name
    assert (source, error["image"], error["kind"], error["split"], told["model"]) == (name, name, "swapped", "val", "m")
    assert content == found.data.images[0].path.read_bytes()
    wanted = (None, "dog", "cat") if task == "classify" else (1, HOSTILE, "cat")
    assert (error["line"], error["label"]["class"], error["found"]["class"]) == wanted
    if task != "classify":
        given = found.data.images[0].rows[0]
        assert [float(value) for value in rows] == [1, *given.coordinates.tolist()]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose", "classify"])
def test_the_archive_for_review_is_valid_whichever_split_the_suspicions_are_in(
    tmp_path: Path, task: str, split: str
) -> None:
    bare: dict[str, Any] = {} if task == "classify" else {"labels/train/0.txt": "", "labels/val/4.txt": ""}
    (source,) = checked(tmp_path, tree(0) if task == "classify" else dataset(0, task=task, changes=bare))
    data = unpack_split(source, ALL_SPLITS, tmp_path / "images")
    images = compare_images(task, data.class_names, data, perfect(data, task))
    at = next(number for number, image in enumerate(data.images) if image.split == split)
    error = LabelError(kind="missing", image=at, score=0.9, label=None, detection=None)
    path = tmp_path / "review.zip"
    write_review_archive(JudgedLabels(data=data, images=images, errors=[error], most=9, map50=0.9), path, {})
    seen = inspect_dataset(path, path.name, "", policy())
    assert seen.report.verdict is Verdict.VALID, seen.report.findings
    assert (seen.report.statistics.task, seen.dataset.flip_idx) == (task, data.flip_idx)
    assert {name: len(own) for name, own in seen.dataset.splits.items() if name != split} == {
        "val" if split == "train" else "train": 1
    }


def test_the_page_shows_each_suspicion_and_runs_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, "detect")
    page = label_error_page("m version 1", found, 3, [HOSTILE])
    assert HOSTILE not in page
    assert page.count("data:image/jpeg") == 2
    assert "found cat (0.90)" in page
    assert "judged by 3 models like" in page
    assert "wrong class" in label_error_markdown(found, [])
    assert label_error_sentence(found) == (
        "a.zip: 1 suspicion about 4 labels: 0 missing, 0 spurious, 1 swapped, 0 misplaced."
    )


def test_judges_that_find_nothing_say_that_they_say_little(tmp_path: Path) -> None:
    blind = replace(judged(tmp_path, "detect"), errors=[], map50=0.0)
    assert "find little of what is labelled (mAP50 0.00)" in label_error_sentence(blind)
    assert "find little of what is labelled" in label_error_page("m version 1", blind, 2, [])
    assert "find little of what is labelled" in label_error_markdown(blind, [])


def test_what_is_not_shown_is_told(tmp_path: Path) -> None:
    found = judged(tmp_path, "detect")
    more = replace(
        found, errors=[*found.errors, LabelError(kind="spurious", image=1, score=0.4, label=0, detection=None)]
    )
    assert "The surest 1 are shown." in label_error_sentence(more)
    assert "surest of 2 suspicions" in label_error_page("m version 1", more, 0, [])


def test_a_picture_shows_neighbours_as_a_whole_unless_they_are_far_larger() -> None:
    boxes = np.array([[0, 0, 40, 40]], np.float32)
    assert window(boxes, boxes[:0], 1000, 800) == (0, 0, 120, 120)
    assert window(boxes, np.array([[100, 20, 180, 60], [300, 0, 320, 90]], np.float32), 1000, 800) == (0, 0, 184, 120)
    assert window(boxes, np.array([[100, 20, 700, 60]], np.float32), 1000, 800) == (0, 0, 120, 120)
    assert window(boxes, np.array([[20, 20, 60, 60]], np.float32), 50, 30) == (0, 0, 50, 30)

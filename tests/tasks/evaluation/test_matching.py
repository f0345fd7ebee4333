"""One matching, and what rests on it: the kinds of errors and their costs, confusion, calibration."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.evaluation.calibration import calibrate
from tasks.evaluation.coco_metrics import coco_metrics
from tasks.evaluation.confusion import BACKGROUND, confuse
from tasks.evaluation.error_kinds import KINDS, error_kinds, mean_ap
from tasks.evaluation.matching import match
from tasks.evaluation.overlaps import best_first, compare_image
from tasks.vision.detections import pack_masks
from tasks.vision.geometry import rotated_iou_matrix
from tests.tasks.evaluation.pictures import detections, draw_pair

BOX = (100, 100, 200, 200)
TASKS = ("detect", "segment", "pose")


def one(found: Any, classes: Any, scores: Any, labels: Any = BOX, label_classes: Any = (0,)) -> Any:
    """The matching of one image with one square of class 0."""
    return match([compare_image(detections(labels, label_classes), detections(found, classes, scores), "detect")])


@pytest.mark.parametrize("task", TASKS)
def test_the_matching_gives_the_map50_of_coco(task: str) -> None:
    rng = np.random.default_rng(5)
    pairs = [draw_pair(rng, task) for _ in range(60)]
    images = [compare_image(labels, best_first(found), task) for labels, found in pairs]
    assert mean_ap(match(images)) == pytest.approx(coco_metrics(images, 3, task).overall.values["mAP50"], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "box", "class_id"),
    [
        ("class", BOX, 1),
        ("location", (100, 100, 200, 140), 0),
        ("both", (100, 100, 200, 140), 1),
        ("background", (300, 300, 310, 310), 0),
    ],
)
def test_an_error_is_of_its_kind(kind: str, box: Any, class_id: int) -> None:
    kinds = error_kinds(one(box, [class_id], [0.9]))
    missed = {"missed": 1} if kind in {"both", "background"} else {}
    assert {name: each.count for name, each in kinds.items() if each.count} == {kind: 1, **missed}


def test_a_second_detection_of_a_label_is_a_duplicate() -> None:
    kinds = error_kinds(one([BOX, BOX], [0, 0], [0.9, 0.8]))
    assert {name: each.count for name, each in kinds.items() if each.count} == {"duplicate": 1}
    assert kinds["duplicate"].cost == 0  # it comes after the right one


def test_mending_a_kind_of_error_brings_what_it_costs() -> None:
    two = one([BOX, (300, 300, 320, 320)], [1, 0], [0.9, 0.8], [BOX, (10, 10, 60, 60)], [0, 0])
    kinds = error_kinds(two)
    # With the class mended: one of two labels found before the false one, so precision 1 up to recall 0.5 (51 of 101).
    assert kinds["class"].cost == pytest.approx(51 / 101)
    assert kinds["missed"].count == 1
    assert sum(each.count for each in kinds.values()) == 3
    assert tuple(kinds) == KINDS


def test_what_is_found_already_cannot_be_found_again_by_mending() -> None:
    again = one([BOX, BOX], [0, 1], [0.9, 0.95], [BOX, (10, 10, 60, 60)], [0, 0])
    assert (error_kinds(again)["class"].count, error_kinds(again)["class"].cost) == (1, 0)


def test_confusion_names_the_images_of_each_case() -> None:
    images = [
        compare_image(detections(BOX, [0]), detections(BOX, [0], [0.9]), "detect"),
        compare_image(detections(BOX, [0]), detections(BOX, [1], [0.9]), "detect"),
        compare_image(detections(BOX, [0]), detections(BOX, [0], [0.2]), "detect"),
        compare_image(detections(BOX, [0]), detections([BOX, BOX], [1, 1], [0.9, 0.8]), "detect"),
    ]
    confusion = confuse(match(images), {0: 0.5, 1: 0.5})
    assert confusion.cells == {(0, 0): (0,), (0, 1): (1, 3), (0, BACKGROUND): (2,), (BACKGROUND, 1): (3,)}


def test_calibration_is_the_gap_between_confidence_and_precision() -> None:
    pairs = [
        (detections(BOX if at % 2 else [], [0] if at % 2 else []), detections(BOX, [0], [0.95])) for at in range(40)
    ]
    pairs.append((detections([], []), detections(BOX, [0], [0.04])))  # nobody uses one that weak
    calibration = calibrate(match([compare_image(labels, found, "detect") for labels, found in pairs]))
    (only,) = calibration.bins
    assert (only.low, only.high, only.count, only.precision) == (0.9, 1.0, 40, 0.5)
    assert calibration.error == pytest.approx(0.45)
    assert calibrate(one([], [], [])).error is None  # nothing found is no good calibration


def test_what_lies_on_a_label_without_visible_points_is_neither_right_nor_wrong() -> None:
    points = np.tile(np.array([[[150, 150, 0]]], np.float32), (1, 17, 1))
    found = detections(BOX, [0], [0.9], keypoints=np.where(points == 0, 1, points))
    hidden = match([compare_image(detections(BOX, [0], keypoints=points), found, "pose")])
    assert (len(hidden.confidence), len(hidden.label_class)) == (0, 0)


def test_areas_of_masks_are_in_pixels_of_the_image() -> None:
    image: dict[str, Any] = {"width": 160, "height": 80}
    outline = np.array([[20, 20], [60, 20], [60, 60], [20, 60]], np.float32)
    labels = replace(detections([20, 20, 60, 60], [0], polygons=(outline,)), **image)
    mask = np.zeros((1, 80, 80), np.bool_)  # half as large, below a border of 20
    mask[0, 30:50, 10:30] = True
    found = replace(detections([20, 20, 60, 60], [0], [0.9], mask=pack_masks(mask)), **image)
    compared = compare_image(labels, found, "segment")
    assert (compared.areas.tolist(), compared.label_areas.tolist(), compared.overlaps.tolist()) == (
        [1600],
        [1600],
        [[1]],
    )


def test_rotated_boxes_overlap_exactly() -> None:
    square = np.array([[100, 100, 40, 40, 0], [100, 100, 40, 40, np.pi / 4], [400, 400, 9, 9, 0]], np.float32)
    diagonal = 2 * (np.sqrt(2) - 1)  # the octagon that two squares share, by the area of one
    expected = diagonal / (2 - diagonal)
    assert rotated_iou_matrix(square[:1], square)[0] == pytest.approx([1, expected, 0], abs=1e-5)


def test_rotated_boxes_overlap_as_much_as_points_lie_in_both() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.uniform(50, 150, (40, 2)), rng.uniform(5, 90, (40, 2)), rng.uniform(-np.pi, np.pi, 40)]
    boxes = np.column_stack(parts).astype(np.float32)
    offsets = np.moveaxis(np.mgrid[:200, :200], 0, -1).reshape(1, -1, 2) - boxes[:, None, :2]
    cosine, sine = np.cos(boxes[:, 4, None]), np.sin(boxes[:, 4, None])
    along = offsets[..., 0] * cosine + offsets[..., 1] * sine
    across = offsets[..., 1] * cosine - offsets[..., 0] * sine
    inside = ((np.abs(along) < boxes[:, 2, None] / 2) & (np.abs(across) < boxes[:, 3, None] / 2)).astype(np.float32)
    shared, areas = inside @ inside.T, inside.sum(axis=1)
    np.testing.assert_allclose(rotated_iou_matrix(boxes, boxes), shared / (areas[:, None] + areas - shared), atol=0.05)

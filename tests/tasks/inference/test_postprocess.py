"""What the served graph of each task answers, as detections."""

from typing import Any

import numpy as np
import pytest

from tasks.inference.postprocess import (
    MOST_THRESHOLDS,
    class_thresholds,
    describe_thresholds,
    list_thresholds,
    to_detections,
)
from tasks.parameters import InferenceParams
from tasks.vision.detections import Detections, VideoPosition
from tasks.vision.geometry import Floats, Letterbox
from tasks.vision.masks import mask_to_polygon
from tests.tasks.inference.results.examples import MODEL, model, picture

SQUARE = Letterbox.fit(128, 64, 64)  # half the size, 16 pixels of padding above and below


def served(*rows: list[float]) -> Floats:
    array = np.zeros((300, 6), np.float32)
    array[: len(rows)] = np.reshape(rows, (-1, 6))
    return array


def found(*rows: list[float], task: str = "detect", more: dict[str, Floats] | None = None, **params: Any) -> Detections:
    outputs = {"detections": served(*rows)} | (more or {})
    return to_detections(outputs, model(task), SQUARE, InferenceParams(**params), "a.jpg")


def test_boxes_are_in_pixels_of_the_original() -> None:
    detections = found([10, 20, 30, 40, 0.9, 1])
    assert detections.xyxy.tolist() == [[20, 8, 60, 48]]
    assert (detections.width, detections.height) == (128, 64)
    assert detections.class_id.tolist() == [1]
    assert (detections.frame, detections.timestamp_ms) == (None, None)


def test_a_frame_says_when_it_was() -> None:
    outputs = {"detections": served([10, 20, 30, 40, 0.9, 1])}
    frame = to_detections(outputs, MODEL, SQUARE, InferenceParams(), "v.mp4", VideoPosition(3, 120.5))
    assert (frame.source, frame.frame, frame.timestamp_ms) == ("v.mp4", 3, 120.5)


def test_padding_rows_go_even_when_every_confidence_is_wanted() -> None:
    assert len(found([10, 20, 30, 40, 0.01, 0], confidence=0.0)) == 1


def test_the_threshold_keeps_what_reaches_it() -> None:
    assert found([10, 20, 30, 40, 0.5, 0], [10, 20, 30, 40, 0.49, 0], confidence=0.5).confidence.tolist() == [0.5]


def test_a_class_may_have_a_threshold_of_its_own_above_or_below() -> None:
    rows = [0, 20, 9, 40, 0.3, 0], [10, 20, 19, 40, 0.3, 1], [30, 20, 39, 40, 0.1, 1], [40, 20, 49, 40, 0.9, 0]
    assert found(*rows, class_confidence={"red": 0.8}).class_id.tolist() == [0, 1]
    assert found(*rows, class_confidence={"white": 0.05}).class_id.tolist() == [0, 0, 1, 1]
    assert found(*rows, confidence="auto", class_confidence={"red": 0.8}).class_id.tolist() == [0, 1]


def test_a_threshold_for_a_class_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'green'"):
        class_thresholds(MODEL.class_names, InferenceParams(class_confidence={"green": 0.5}))


def test_a_stricter_iou_is_applied_here_and_a_laxer_one_is_the_graphs() -> None:
    rows = [10, 20, 30, 40, 0.9, 0], [11, 20, 31, 40, 0.8, 0]
    assert len(found(*rows, iou=0.5)) == 1
    assert len(found(*rows, iou=0.7)) == 2


def test_detections_are_sorted_best_first() -> None:
    assert found([0, 16, 9, 30, 0.3, 0], [20, 20, 30, 40, 0.8, 0]).confidence.tolist() == pytest.approx([0.8, 0.3])


def test_numbers_that_are_none_and_boxes_in_the_padding_go() -> None:
    hostile = [float("nan"), 20, 30, 40, 0.9, 0], [10, 20, float("inf"), 40, 0.9, 0], [10, 0, 30, 10, 0.9, 0]
    assert len(found(*hostile)) == 0


def test_absurd_numbers_stay_inside_their_types() -> None:
    detections = found([-1e38, -1e38, 1e38, 1e38, 0.9, 1e30], [10, 20, 30, 40, 0.8, -1e30], iou=0.5)
    assert detections.xyxy.tolist() == [[0, 0, 128, 64], [20, 8, 60, 48]]
    assert detections.class_id.tolist() == [1_000_000, -1_000_000]


def test_another_shape_is_refused() -> None:
    outputs = {"detections": np.zeros((84, 8400), np.float32)}
    with pytest.raises(ValueError, match=r"found \[84, 8400\]"):
        to_detections(outputs, MODEL, Letterbox.fit(9, 9, 64), InferenceParams(), "a.jpg")


def test_a_mask_becomes_its_outline_in_pixels_of_the_original() -> None:
    prototypes = np.full((1, 16, 16), -1, np.float32)
    prototypes[0, 6:10, 3:7] = 1  # in the square, enlarged four times: 24 to 40 down, 12 to 28 across
    more = {"prototypes": prototypes, "coefficients": np.ones((300, 1), np.float32)}
    detections = found([8, 20, 32, 44, 0.9, 1], task="segment", more=more)
    assert detections.polygons is not None
    (ring,) = detections.polygons
    assert ring.min(axis=0) == pytest.approx([24, 16], abs=2)
    assert ring.max(axis=0) == pytest.approx([56, 48], abs=2)


def test_keypoints_and_turned_boxes_are_in_pixels_of_the_original() -> None:
    row = [10, 20, 30, 40, 0.9, 1]
    points = np.tile(np.array([[12, 24, 0.75]], np.float32), (300, 1, 1))
    pose = found(row, task="pose", more={"keypoints": points})
    assert pose.keypoints is not None
    assert pose.keypoints.tolist() == [[[24, 16, 0.75]]]
    obb = found(row, task="obb", more={"rotated": np.tile(np.array([20, 30, 10, 4, 0], np.float32), (300, 1))})
    assert obb.xywhr is not None
    assert obb.xywhr.tolist() == [[40, 28, 20, 8, 0]]
    assert obb.polygons is not None
    assert sorted(map(tuple, obb.polygons[0].tolist())) == [(30, 24), (30, 32), (50, 24), (50, 32)]


def test_a_class_of_the_picture_is_a_detection_as_large_as_the_picture() -> None:
    outputs = {"scores": np.array([0.2, 0.7, np.nan, np.inf], np.float32)}
    classified = to_detections(outputs, model("classify"), SQUARE, InferenceParams(confidence=0.1), "a.jpg")
    assert classified.class_id.tolist() == [1, 0]
    assert classified.xyxy.tolist() == [[0, 0, 128, 64]] * 2


def test_scaling_moves_everything_with_the_picture() -> None:
    small = picture(1, task="obb").rescale(64, 32)
    assert small.xyxy.tolist() == [[5, 10, 20, 30]]
    assert (small.width, small.height) == (64, 32)
    assert small.xywhr is not None
    assert small.xywhr[0].tolist() == pytest.approx([12.5, 20, 10, 5, 0.5])
    assert small.polygons is not None
    assert small.polygons[0].mean(axis=0).tolist() == pytest.approx([12.5, 20])
    pose = picture(1, task="pose").rescale(64, 32)
    assert pose.keypoints is not None
    assert pose.keypoints[0, 0].tolist() == pytest.approx([5.5, 11, 0.9])


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_some_can_be_kept_in_any_order(task: str) -> None:
    whole = picture(0, 1, 0, task=task)
    kept = whole.select(np.array([2, 0]))
    assert kept.xyxy[:, 0].tolist() == [12, 10]
    assert all(value is None or len(value) == 2 for value in (kept.polygons, kept.keypoints, kept.xywhr))
    assert whole.select(np.array([False, True, False])).class_id.tolist() == [1]


def test_an_outline_goes_around_the_largest_part() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:4, 2:4] = mask[8:18, 8:18] = True
    ring = mask_to_polygon(mask)
    assert ring.min() >= 8
    assert len(ring) == 4
    assert mask_to_polygon(np.zeros((4, 4), np.bool_)).shape == (0, 2)
    assert len(mask_to_polygon(np.eye(1, dtype=np.bool_))) >= 3


def test_a_person_is_told_from_which_confidence_a_class_counts() -> None:
    assert list_thresholds({"cat": 0.5, "a\nb": 0.25}) == "0.500 for 'cat', 0.250 for 'a\\nb'"
    many = list_thresholds({f"class {number}": 0.5 for number in range(MOST_THRESHOLDS + 3)})
    assert many.endswith("0.500 for 'class 19' and others for 3 more classes")


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, "from 0.25"),
        ({"confidence": 0.4, "class_confidence": {"cat": 0.6}}, "from 0.600 for 'cat'; other classes from 0.4"),
        (
            {"confidence": "auto", "class_confidence": {"cat": 0.412}},
            "from 0.412 for 'cat'; other classes from 0.25. Those are the thresholds kept with the version (auto)",
        ),
    ],
)
def test_a_gallery_can_say_from_which_confidence_on_detections_are_in_it(params: dict[str, Any], told: str) -> None:
    assert describe_thresholds(InferenceParams(**params)) == told

"""The one value for what a model finds: rows are chosen and resized together, and supervision takes it as its own."""

from dataclasses import replace

import numpy as np
import pytest
import supervision

from tasks.vision.detections import Detections
from tasks.vision.geometry import xywhr_to_corners

RING = np.array([[10, 10], [30, 10], [30, 20], [10, 20]], np.float32)
XYWHR = np.array([[20, 15, 20, 10, 0.5], [60, 40, 8, 30, 0]], np.float32)


def two() -> Detections:
    return Detections(
        width=100,
        height=80,
        xyxy=np.array([[10, 10, 30, 20], [50, 25, 70, 55]], np.float32),
        confidence=np.array([0.9, 0.5], np.float32),
        class_id=np.array([1, 0], np.int32),
        tracker_id=np.array([7, 0]),
    )


@pytest.mark.parametrize("rows", [np.array([False, True]), np.array([1])])
def test_chosen_rows_keep_everything_that_is_theirs(rows: np.ndarray) -> None:
    every = replace(two(), polygons=(RING, RING + 9), keypoints=np.ones((2, 3, 3), np.float32), xywhr=XYWHR)
    (chosen,) = [every.select(rows)]
    assert chosen.polygons is not None
    assert chosen.tracker_id is not None
    assert chosen.xywhr is not None
    assert (len(chosen), chosen.class_id.tolist(), chosen.tracker_id.tolist()) == (1, [0], [0])
    assert (chosen.polygons[0] == RING + 9).all()
    assert (chosen.xywhr == XYWHR[1:]).all()


def test_supervision_gets_boxes_classes_and_tracks() -> None:
    theirs = two().to_supervision()
    assert isinstance(theirs, supervision.Detections)
    assert (theirs.xyxy == two().xyxy).all()
    assert theirs.class_id is not None
    assert theirs.tracker_id is not None
    assert (theirs.class_id.tolist(), theirs.tracker_id.tolist(), theirs.mask) == ([1, 0], [7, 0], None)


def test_supervision_gets_outlines_as_masks_of_the_image() -> None:
    theirs = replace(two(), polygons=(RING, np.empty((0, 2), np.float32))).to_supervision()
    assert theirs.mask.shape == (2, 80, 100)
    assert theirs.mask[0, 10:21, 10:31].all()
    assert (int(theirs.mask[0].sum()), int(theirs.mask[1].sum())) == (11 * 21, 0)


def test_supervision_gets_rotated_boxes_as_its_annotators_want_them() -> None:
    corners = xywhr_to_corners(XYWHR)
    theirs = replace(two(), xywhr=XYWHR, polygons=tuple(corners)).to_supervision()
    assert (theirs.data["xyxyxyxy"] == corners).all()
    assert theirs.mask is None
    drawn = supervision.OrientedBoxAnnotator().annotate(np.zeros((80, 100, 3), np.uint8), theirs)
    assert drawn.any()


def test_no_detections_are_no_detections_of_supervision() -> None:
    assert len(Detections.empty(10, 10).to_supervision()) == 0

"""From the shapes of another tool to the rows of a YOLO label file, with an account of what that changes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from tasks.dataset.labels import MIN_AREA
from tasks.importing.annotations import (
    AnnotatedImage,
    Box,
    Floats,
    Outline,
    PlaceLog,
    Pose,
    RotatedBox,
    Shape,
    Tag,
)
from tasks.importing.frames import Frame, turn_shares
from tasks.importing.run_lengths import MAX_CORNERS, join_rings
from tasks.vision.polygons import degeneracy_area

_TASKS: dict[type[Shape], str] = {Box: "detect", RotatedBox: "obb", Outline: "segment", Pose: "pose", Tag: "classify"}
# Of as many shapes of two kinds the richer one decides: the other can be made from it.
_RICHEST = ("pose", "segment", "obb", "detect", "classify")
_WORDS: dict[type[Shape], str] = {
    Box: "an upright box",
    RotatedBox: "a rotated box",
    Outline: "an outline",
    Pose: "a pose",
    Tag: "a class of a whole image",
}
_RESULT = {
    "detect": "the upright box around it",
    "segment": "an outline of its four corners",
    "obb": "a rotated box",
    "pose": "a pose without keypoints",
}
# Numbers are written so that each pixel of the largest image can be told from its neighbour.
_DIGITS = 9
_ROUNDING = 1e-5  # of a side: what tools round a corner at the edge by is no change


def choose_task(images: Iterable[AnnotatedImage]) -> str:
    """Return the task that most shapes are made for."""
    counts = Counter(_TASKS[type(shape)] for image in images for shape in image.shapes)
    return max(_RICHEST, key=lambda task: counts[task]) if counts else "detect"


@dataclass(frozen=True, kw_only=True)
class RowWriter:
    """Writes shapes as rows for a task; a pose has so many `keypoints`, which are absent in a shape that is none."""

    task: str
    class_ids: Mapping[str, int]
    keypoints: int = 0

    def write(self, shape: Shape, frame: Frame, log: PlaceLog) -> str | None:
        """Return the row of a shape in the image as it is shown; None if it cannot be a label."""
        if (reason := self._refusal(shape)) or isinstance(shape, Tag):
            log.add(f"left out: {reason}")
            return None
        corners = np.asarray(self._corners(shape, log), np.float64)  # numbers of any size came from a document
        limits = np.array([frame.width, frame.height], np.float64)
        inside = np.clip(corners, 0, limits)
        if (abs(corners - inside) > _ROUNDING * limits).any():
            log.add("changed: a shape that reaches beyond its image has its corners at the edge")
        corners = turn_shares(inside / limits, frame.orientation).round(_DIGITS)
        low, high = corners.min(axis=0), corners.max(axis=0)
        has_corners = self.task in {"segment", "obb"}
        if not (high > low).all() or (has_corners and _is_flat(corners)):
            log.add("left out: a shape without an area inside its image")
            return None
        if has_corners:
            return self._row(shape, corners)
        box = np.concatenate([(low + high) / 2, high - low])
        if self.task == "detect":
            return self._row(shape, box)
        points = shape.keypoints if isinstance(shape, Pose) else np.zeros((self.keypoints, 3))
        return self._row(shape, np.concatenate([box, _keypoint_shares(points, frame, log).ravel()]))

    def _refusal(self, shape: Shape) -> str:
        """Return why a shape cannot be a label, whatever its image; empty if it may be one."""
        if isinstance(shape, Tag):
            return f"{_WORDS[Tag]} beside labels of objects"
        if isinstance(shape, Pose) and self.task == "pose" and len(shape.keypoints) != self.keypoints:
            return f"a pose that has not {self.keypoints} keypoints, as most have"
        if isinstance(shape, Box) and self.task == "segment" and shape.unusable:
            return shape.unusable
        if isinstance(shape, Outline) and len(shape.rings) > 1 and sum(map(len, shape.rings)) > MAX_CORNERS:
            return f"an outline of several parts with more than {MAX_CORNERS:,} corners"
        return ""

    def _corners(self, shape: Box | RotatedBox | Outline | Pose, log: PlaceLog) -> Floats:
        """Return the corners (k, 2) that the task needs."""
        if _TASKS[type(shape)] != self.task:
            log.add(f"changed: {_WORDS[type(shape)]} into {_RESULT[self.task]}")
            if isinstance(shape, Pose):
                log.add("not kept: the keypoints of a pose")
        if isinstance(shape, Box) and shape.unusable:
            log.add(f"not kept: {shape.unusable}")
        if isinstance(shape, RotatedBox):
            return shape.corners
        if not isinstance(shape, Outline):
            left, top, right, bottom = shape.corners
            if left > right or top > bottom:
                log.add("changed: a box whose corners were swapped, or whose width or height was negative")
            return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
        if self.task == "segment":
            return join_rings(shape.rings)
        corners = np.concatenate(shape.rings)
        if self.task != "obb":
            return corners
        return np.asarray(cv2.boxPoints(cv2.minAreaRect(corners.astype(np.float32))), np.float64)

    def _row(self, shape: Shape, numbers: Floats) -> str:
        written = [f"{number:.{_DIGITS}g}" for number in numbers.ravel().tolist()]
        return " ".join([str(self.class_ids[shape.class_name]), *written])


def _is_flat(corners: Floats) -> bool:
    """Return whether corners (k, 2) are no outline to the dataset check: all on one line."""
    return bool(degeneracy_area(corners, np.array([len(corners)]))[0] <= MIN_AREA)


def _keypoint_shares(keypoints: Floats, frame: Frame, log: PlaceLog) -> Floats:
    """Return keypoints as shares; one beyond its image is absent, as YOLO has no place for it."""
    points = keypoints.astype(np.float64)
    limits = np.array([frame.width, frame.height])
    outside = ((points[:, :2] < 0) | (points[:, :2] > limits)).any(axis=1) & (points[:, 2] > 0)
    if outside.any():
        log.add("changed: a keypoint beyond its image is absent", int(outside.sum()))
    absent = outside | (points[:, 2] <= 0)
    points[:, :2] = turn_shares(points[:, :2] / limits, frame.orientation)
    points[:, 2] = np.clip(np.round(points[:, 2]), 0, 2)
    points[absent] = 0
    return points

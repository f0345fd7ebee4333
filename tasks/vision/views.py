"""The same image seen in other ways: what a model knows for certain, it finds in each of them."""

from dataclasses import replace
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.vision.detections import Detections

SHRINK = 0.75  # Ultralytics' own test-time augmentation takes 0.83 and 0.67
_GREY = 114  # as Ultralytics pads


class View(StrEnum):
    """Ways to see an image; each has its size in pixels."""

    PLAIN = "plain"
    MIRRORED = "mirrored"  # left is right
    SMALLER = "smaller"  # in the middle of a grey frame


def render_view(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Return an image [H, W, 3] in a view, of the same shape."""
    if view is View.PLAIN:
        return image
    if view is View.MIRRORED:
        return np.ascontiguousarray(image[:, ::-1])
    height, width = image.shape[:2]
    left, top, inner_width, inner_height = _inner(width, height)
    canvas = np.full_like(image, _GREY)
    inner: Any = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def restore_boxes(detections: Detections, view: View) -> Detections:
    """Return the boxes that were found in a view where they are in the plain image; without masks and keypoints."""
    boxes, rotated = detections.xyxy, detections.xywhr
    if view is View.MIRRORED:
        boxes = np.stack([detections.width - boxes[:, 2], boxes[:, 1], detections.width - boxes[:, 0], boxes[:, 3]], 1)
        if rotated is not None:
            rotated = rotated * np.array([-1, 1, 1, 1, -1], np.float32)
            rotated[:, 0] += detections.width
    if view is View.SMALLER:
        left, top, inner_width, inner_height = _inner(detections.width, detections.height)
        gain = np.array([detections.width / inner_width, detections.height / inner_height], np.float32)
        origin = np.array([left, top], np.float32)
        boxes = (boxes - np.tile(origin, 2)) * np.tile(gain, 2)
        if rotated is not None:
            rotated = np.concatenate([(rotated[:, :2] - origin) * gain, rotated[:, 2:4] * gain, rotated[:, 4:]], axis=1)
    return replace(detections, xyxy=boxes, xywhr=rotated, mask=None, keypoints=None)


def _inner(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the shrunken image in its frame."""
    inner_width, inner_height = (max(1, round(side * SHRINK)) for side in (width, height))
    return (width - inner_width) // 2, (height - inner_height) // 2, inner_width, inner_height

"""Where a box is: letterboxing as Ultralytics' predict does it for a square input, and back again."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]

PADDING = 114


@dataclass(frozen=True)
class Letterbox:
    """How an image of `width` x `height` pixels sits inside a square of `size` x `size`.

    `inner_width` x `inner_height` is the resized image, `left` and `top` the grey border before it. The two sides are
    rounded on their own, so each axis has its own gain.
    """

    size: int
    width: int
    height: int
    inner_width: int
    inner_height: int
    left: int
    top: int

    @classmethod
    def fit(cls, width: int, height: int, size: int) -> Self:
        """Place an image of `width` x `height` pixels; raise ValueError where one of the three is below 1."""
        if min(width, height, size) < 1:
            raise ValueError(
                f"expected sides of at least 1 pixel, found an image of {width}x{height} and a square of {size}; "
                "leave empty images out"
            )
        gain = min(size / height, size / width)
        # A sliver (1 x 3000) would vanish when rounded; the upper bound guards against the float error of the gain.
        inner_width = min(max(round(width * gain), 1), size)
        inner_height = min(max(round(height * gain), 1), size)
        left, top = _before(size - inner_width), _before(size - inner_height)
        return cls(size, width, height, inner_width, inner_height, left, top)

    def apply(self, image: Rgb) -> Rgb:
        """Return the uint8 [size, size, 3] square that holds the [height, width, 3] image."""
        if image.shape != (self.height, self.width, 3):
            raise ValueError(
                f"expected an image of shape {(self.height, self.width, 3)}, found {image.shape}; "
                "build the letterbox from the sides of the very image it is applied to"
            )
        square = np.full((self.size, self.size, 3), PADDING, np.uint8)
        inner = image
        if (self.width, self.height) != (self.inner_width, self.inner_height):
            inner = _rgb(cv2.resize(image, (self.inner_width, self.inner_height), interpolation=cv2.INTER_LINEAR))
        square[self.top : self.top + self.inner_height, self.left : self.left + self.inner_width] = inner
        return square

    def to_square(self, boxes: Floats) -> Floats:
        """Move [n, 4] boxes (x1, y1, x2, y2) from pixels of the image to pixels of the square."""
        return _floats(np.asarray(boxes, np.float32) * self._gains + self._offsets)

    def to_image(self, boxes: Floats) -> Floats:
        """Move [n, 4] boxes from pixels of the square to pixels of the image, clipped to the image."""
        moved = (np.asarray(boxes, np.float32) - self._offsets) / self._gains
        limits = np.array([self.width, self.height] * 2, np.float32)
        return _floats(np.clip(moved, 0, limits))

    @property
    def _gains(self) -> Floats:
        return np.array([self.inner_width / self.width, self.inner_height / self.height] * 2, np.float32)

    @property
    def _offsets(self) -> Floats:
        return np.array([self.left, self.top] * 2, np.float32)


def iou_matrix(boxes: Floats) -> Floats:
    """Return the [n, n] overlaps (intersection over union, 0 to 1) of [n, 4] boxes; boxes without area overlap none."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    union = areas[:, None] + areas[None, :] - shared
    return _floats(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppress(detections: Floats, iou: float) -> Floats:
    """Keep, of [n, 6] detections (box, confidence, class), the best of each heap, class by class.

    A detection goes when one of its class with a higher confidence stays and overlaps it by more than `iou`. The result
    is sorted by falling confidence; equal confidences keep their order.
    """
    ordered = detections[np.argsort(-detections[:, 4], kind="stable")]
    same_class = ordered[:, None, 5] == ordered[None, :, 5]
    beaten_by = (iou_matrix(ordered[:, :4]) > iou) & same_class
    keep = np.ones(len(ordered), bool)
    for index in range(len(ordered)):
        if keep[index]:
            keep[index + 1 :] &= ~beaten_by[index, index + 1 :]
    return ordered[keep]


def _before(padding: int) -> int:
    # An odd pixel of padding goes behind the image; the 0.1 is Ultralytics' way to say so.
    return round(padding / 2 - 0.1)


def _floats(array: object) -> Floats:
    return np.asarray(array, np.float32)


def _rgb(array: object) -> Rgb:
    return np.asarray(array, np.uint8)

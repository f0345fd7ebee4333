"""Letterboxing as Ultralytics' predict does it for a square input, and back again; boxes and their overlaps.

Model `predict` (model_repository) has this very file, as a link: it imports NumPy, OpenCV and Pillow alone.
"""

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Complexes = NDArray[np.complex128]
Rows = NDArray[np.intp]

PAD_VALUE = 114
COORDINATE_LIMIT = 1e6  # pixels, and classes: a broken graph may say any number
_CHUNK = 4096  # outlines that are clipped at once: they fit the processor's cache
_SLIVER = 32  # times longer than wide: the long side, resized, would fill the memory to be cut away


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """The place of an image of `width` x `height` pixels in a square of `size` x `size`.

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
        """Return the letterbox of an image of `width` x `height` pixels.

        Raises:
            ValueError: One of the three is below 1.
        """
        if min(width, height, size) < 1:
            raise ValueError(
                f"expected sides of at least 1 pixel, found an image of {width}x{height} and a square of {size}; "
                "leave empty images out"
            )
        gain = min(size / height, size / width)
        # A sliver (1 x 3000) would vanish when rounded; the upper bound guards against the float error of the gain.
        inner_width = min(max(round(width * gain), 1), size)
        inner_height = min(max(round(height * gain), 1), size)
        return cls(
            size=size,
            width=width,
            height=height,
            inner_width=inner_width,
            inner_height=inner_height,
            left=_before(size - inner_width),
            top=_before(size - inner_height),
        )

    def apply(self, image: Rgb) -> Rgb:
        """Return the uint8 [size, size, 3] square that holds the [height, width, 3] image.

        Raises:
            ValueError: The image has another shape.
        """
        if image.shape != (self.height, self.width, 3):
            raise ValueError(
                f"expected an image of shape {(self.height, self.width, 3)}, found {image.shape}; "
                "build the letterbox from the sides of the very image it is applied to"
            )
        inner = image
        if (self.width, self.height) != (self.inner_width, self.inner_height):
            inner = _rgb(cv2.resize(image, (self.inner_width, self.inner_height), interpolation=cv2.INTER_LINEAR))
        bottom = self.size - self.inner_height - self.top
        right = self.size - self.inner_width - self.left
        grey = (PAD_VALUE,) * 3
        return _rgb(cv2.copyMakeBorder(inner, self.top, bottom, self.left, right, cv2.BORDER_CONSTANT, value=grey))

    def to_image(self, boxes: Floats) -> Floats:
        """Move [n, 4] boxes from pixels of the square to pixels of the image, clipped to the image."""
        return clip_boxes((np.asarray(boxes, np.float32) - self._offsets) / self._gains, self.width, self.height)

    def points_to_image(self, points: Floats) -> Floats:
        """Move [..., 2 or more] points (x, y, what stays) to pixels of the image, clipped to the image."""
        moved = np.clip(self.corners_to_image(points[..., :2]), 0, np.array([self.width, self.height], np.float32))
        return _floats(np.concatenate([moved, points[..., 2:]], axis=-1))

    def points_to_square(self, points: Floats) -> Floats:
        """Move [..., 2] points from pixels of the image to pixels of the square."""
        return _floats(np.asarray(points, np.float32) * self._gains[:2] + self._offsets[:2])

    def corners_to_image(self, corners: Floats) -> Floats:
        """Move [..., 2] corners of rotated boxes to pixels of the image; nothing is clipped."""
        return _floats((np.asarray(corners, np.float32) - self._offsets[:2]) / self._gains[:2])

    def rotated_to_image(self, rotated: Floats) -> Floats:
        """Move [n, 5] boxes (centre, width, height, angle) to pixels of the image; nothing is clipped.

        The angle stays, as in Ultralytics: the two gains differ by the rounding of a side only.
        """
        offsets = np.array([self.left, self.top, 0, 0], np.float32)
        return _floats(np.concatenate([(rotated[:, :4] - offsets) / self._gains, rotated[:, 4:]], axis=1))

    @property
    def _gains(self) -> Floats:
        return np.array([self.inner_width / self.width, self.inner_height / self.height] * 2, np.float32)

    @property
    def _offsets(self) -> Floats:
        return np.array([self.left, self.top] * 2, np.float32)


def clip_boxes(boxes: Floats, width: int, height: int) -> Floats:
    """Cut [n, 4] boxes at the edges of an image of `width` x `height` pixels."""
    return _floats(np.clip(boxes, 0, np.array([width, height] * 2, np.float32)))


def center_crop(image: Rgb, size: int) -> Rgb:
    """Return the uint8 [size, size, 3] centre of the [height, width, 3] image, its shorter side resized to `size`.

    As Ultralytics' `classify_transforms` to the last bit: Pillow's bilinear filter, which widens as it shrinks. The
    centre of a sliver (more than 32 times longer than wide) may be a level off.

    Raises:
        ValueError: The image has another shape or is empty, or the size is below 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(*image.shape, size) < 1:
        raise ValueError(
            f"expected an image of shape (height, width, 3) with sides of at least 1 pixel and a square of at least 1, "
            f"found {image.shape} and {size}; leave empty images out"
        )
    height, width = image.shape[:2]
    shorter = min(height, width)
    # The longer side is cut off to a whole pixel, the offset rounded: torchvision's own Resize and CenterCrop.
    whole_width, whole_height = size * width // shorter, size * height // shorter
    left, top = round((whole_width - size) / 2), round((whole_height - size) / 2)
    picture = Image.fromarray(image)
    bilinear = Image.Resampling.BILINEAR
    if max(whole_width, whole_height) <= _SLIVER * size:
        whole = picture.resize((whole_width, whole_height), bilinear)
        return _rgb(whole.crop((left, top, left + size, top + size)))
    x, y = width / whole_width, height / whole_height
    centre = (left * x, top * y, (left + size) * x, (top + size) * y)
    return _rgb(picture.resize((size, size), bilinear, box=centre))


def enclosing_boxes(rotated: Floats) -> Floats:
    """Return the [n, 4] upright boxes around [n, 5] rotated ones (centre, width, height, angle in radians)."""
    cosine, sine = np.abs(np.cos(rotated[:, 4:])), np.abs(np.sin(rotated[:, 4:]))
    width, height = rotated[:, 2:3], rotated[:, 3:4]
    reach = np.concatenate([width * cosine + height * sine, width * sine + height * cosine], axis=1) / 2
    return _floats(np.concatenate([rotated[:, :2] - reach, rotated[:, :2] + reach], axis=1))


def xywhr_to_corners(rotated: Floats) -> Floats:
    """Return the corners [n, 4, 2] of [n, 5] rotated boxes (centre, width, height, angle in radians), in a ring."""
    cosine, sine = np.cos(rotated[:, 4]), np.sin(rotated[:, 4])
    across = rotated[:, 2:3] / 2 * np.stack([cosine, sine], axis=1)
    down = rotated[:, 3:4] / 2 * np.stack([-sine, cosine], axis=1)
    ring = np.stack([across + down, across - down, -across - down, down - across], axis=1)
    return _floats(rotated[:, None, :2] + ring)


def box_iou_matrix(boxes: Floats, others: Floats | None = None) -> Floats:
    """Return the [n, m] overlaps (intersection over union, 0 to 1) of [n, 4] boxes with [m, 4], or with themselves.

    Boxes without area overlap none.
    """
    others = boxes if others is None else others
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas, other_areas = (np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=1) for each in (boxes, others))
    union = areas[:, None] + other_areas[None, :] - shared
    return _floats(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def rotated_iou_matrix(boxes: Floats, others: Floats) -> Doubles:
    """Return the [n, m] exact overlaps of rotated boxes [n, 5] and [m, 5] (centre, width, height, radians)."""
    rows, columns = np.nonzero(box_iou_matrix(enclosing_boxes(boxes), enclosing_boxes(others)))
    rings, other_rings = xywhr_to_corners(boxes)[rows], xywhr_to_corners(others)[columns]
    shared = shared_areas(rings, other_rings)
    union = shared_areas(rings) + shared_areas(other_rings) - shared
    overlaps = np.zeros((len(boxes), len(others)))
    overlaps[rows, columns] = np.clip(shared / np.maximum(union, 1e-9), 0, 1)
    return overlaps


def shared_areas(rings: NDArray[Any], *others: NDArray[Any]) -> Doubles:
    """Return the areas [m] that convex outlines [m, k, 2] share with those of the same row in each of `others`.

    Without `others` these are their own areas. OpenCV's `intersectConvexConvex` fails where edges lie on one line.
    """
    areas = np.empty(len(rings))
    for begin in range(0, len(rings), _CHUNK):
        shared, *windows = (_as_complex(each[begin : begin + _CHUNK]) for each in (rings, *others))
        for window in windows:
            shared = _clip(shared, window)
        areas[begin : begin + _CHUNK] = np.abs(_signed_areas(shared))
    return areas


def _clip(rings: Complexes, windows: Complexes) -> Complexes:
    """The parts [k + q, m] of convex outlines [k, m] in windows [q, m], by Sutherland and Hodgman's way.

    An edge of a window cuts off one run of corners at most. The two crossings replace them, as often as it takes to
    give all outlines one number of corners.
    """
    columns = np.arange(rings.shape[1])
    turns = np.sign(_signed_areas(windows))
    for start, end in zip(windows, np.roll(windows, -1, axis=0), strict=True):
        depths = _cross(turns * (end - start), rings - start)
        # The outermost corner comes first and last, so those inside are one run: `begin` to before `stop`.
        count = len(rings) + 1
        place = np.arange(count)[:, None]
        order = (depths.argmin(axis=0) + place) % len(rings)
        rings, depths = rings[order, columns], depths[order, columns]
        inside = depths >= 0
        begin = inside.argmax(axis=0)
        stop = np.where(inside.any(axis=0), count - inside[::-1].argmax(axis=0), 0)
        for outer, inner, cut in (begin - 1, begin, place < begin), (stop % count, stop - 1, place >= stop):
            corner, depth, other = rings[outer, columns], depths[outer, columns], depths[inner, columns]
            share = depth / np.where(depth < other, depth - other, 1)
            rings = np.where(cut, corner + share * (rings[inner, columns] - corner), rings)
    return np.asarray(rings * (turns != 0), np.complex128)  # a window without area holds nothing


def _as_complex(rings: NDArray[Any]) -> Complexes:
    """Outlines [m, k, 2] as complex numbers [k, m], which NumPy computes with faster."""
    return np.ascontiguousarray((rings[..., 0] + 1j * rings[..., 1]).T, np.complex128)


def _signed_areas(rings: Complexes) -> Doubles:
    corners = rings - rings[0]
    return np.asarray(_cross(corners, np.roll(corners, -1, axis=0)).sum(axis=0) / 2, np.float64)


def _cross(vectors: Complexes, others: Complexes) -> Doubles:
    return np.asarray((vectors.conj() * others).imag, np.float64)


def select_detections(detections: Floats, confidence: float | Floats, iou: float | None) -> Rows:
    """Return the usable rows of a graph's output `detections` [n, 6] (box, confidence, class), best first.

    Rows below `confidence` (one for all, or [n]), unused rows and rows with NaN or infinity are left out. `iou` is that
    of a second non-maximum suppression, stricter than the one in the graph; None if there is none.
    """
    # Unused rows have confidence 0, which a threshold of 0 would let through.
    good = (detections[:, 4] >= confidence) & (detections[:, 4] > 0) & np.isfinite(detections).all(axis=1)
    rows = np.flatnonzero(good)
    usable = np.clip(detections[rows], -COORDINATE_LIMIT, COORDINATE_LIMIT)
    return rows[_best_first(usable) if iou is None else non_max_suppression(usable, iou)]


def non_max_suppression(detections: Floats, iou: float) -> Rows:
    """Return the rows to keep of [n, 6] detections (box, confidence, class), best first.

    A detection goes if one of its class with a higher confidence stays and overlaps it by more than `iou`.
    """
    order = _best_first(detections)
    ordered = detections[order]
    same_class = ordered[:, None, 5] == ordered[None, :, 5]
    suppresses = (box_iou_matrix(ordered[:, :4]) > iou) & same_class
    keep = np.ones(len(ordered), bool)
    for index in range(len(ordered)):
        if keep[index]:
            keep[index + 1 :] &= ~suppresses[index, index + 1 :]
    return order[keep]


def _best_first(detections: Floats) -> Rows:
    return np.argsort(-detections[:, 4], kind="stable")


def _before(padding: int) -> int:
    # An odd pixel of padding goes behind the image; the 0.1 is Ultralytics'.
    return round(padding / 2 - 0.1)


def _floats(array: object) -> Floats:
    return np.asarray(array, np.float32)


def _rgb(array: object) -> Rgb:
    return np.asarray(array, np.uint8)

"""The detections in one image as short texts, which the script of the gallery reads and draws.

A box is 8 characters of base64: x1, y1, x2, y2 in 1023rds of width and height, 10 bits each, and 8 bits of the step of
its confidence. A shape is a head of 4 characters and 4 for each point: 12 bits for x and for y. The head gives the kind
(0 a rotated box, 1 keypoints, 2 the outline of a mask) and the number of points.
"""

import base64
from itertools import accumulate, chain, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.vision.detections import VISIBLE, Detections
from tasks.vision.geometry import Floats

Ints = NDArray[np.int64]

STEPS = 100  # the steps of the confidence slider
BOX = 8  # characters
MAX_BOXES = 300  # of one picture: what the graph gives for one request, only tiles give more
MAX_POINTS = 24  # of one shape
UNSEEN = 4095, 4095  # a keypoint that is hidden

_POINT = 4  # characters, as many as the head
_ROTATED = 0
_KEYPOINTS = 1
_MASK = 2
_TOLERANCE = 6.4  # of 2048 in a side: less than a pixel of a thumbnail
_NO_SHAPE = "AAAA"
# In 32 bits, as in the table of detections, so that filters of both count the same.
_FROM = (np.arange(STEPS + 1) / STEPS).astype(np.float32)


def confidence_steps(confidence: Floats) -> Ints:
    """Return the last step of the slider at which each confidence [n] is still shown, 0 to `STEPS`."""
    return np.clip(np.searchsorted(_FROM, confidence.astype(np.float32), side="right") - 1, 0, STEPS)


def box_text(detections: Detections, rows: Ints) -> str:
    """Return the boxes of these rows as text, in their order."""
    sides = np.array([detections.width, detections.height] * 2, np.float64)
    shares = np.nan_to_num(detections.xyxy[rows] / sides)
    places = np.rint(np.clip(shares, 0, 1) * 1023).astype(np.uint64)
    packed = confidence_steps(detections.confidence[rows]).astype(np.uint64)
    for column, bits in enumerate((38, 28, 18, 8)):
        packed |= places[:, column] << np.uint64(bits)
    return base64.b64encode(packed.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:].tobytes()).decode("ascii")


def shape_texts(detections: Detections, rows: Ints) -> tuple[str, ...]:
    """Return the outline or the keypoints of each of these rows as text; nothing if the task has neither."""
    if detections.keypoints is not None:
        places = _quantized(detections.keypoints[rows, :MAX_POINTS, :2], detections)
        places[detections.keypoints[rows, :MAX_POINTS, 2] < VISIBLE] = UNSEEN
        return _shapes(_KEYPOINTS, list(places))
    if detections.polygons is not None and len(rows):
        rings = [detections.polygons[row] for row in rows.tolist()]
        ends = list(accumulate(map(len, rings), initial=0))
        places = _quantized(np.concatenate(rings), detections)
        kind = _MASK if detections.xywhr is None else _ROTATED
        return _shapes(kind, [_simplified(places[start:end]) for start, end in pairwise(ends)])
    return ()


def confidence_steps_of(boxes: str) -> bytes:
    """Return the steps of the confidences in a text of boxes."""
    return base64.b64decode(boxes)[5::6]


def first_rows(detections: Detections) -> Ints:
    """Return the rows of the boxes that a page draws, the highest confidence first; none for classification."""
    if detections.is_of_whole_picture:
        return np.empty(0, np.int64)
    return np.argsort(-detections.confidence, kind="stable")[:MAX_BOXES]


def fit_to_room(room: int, boxes: list[str], shapes: list[tuple[str, ...]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Cut the boxes and shapes of an image, by class and the highest confidence first, to `room` characters.

    The boxes of the highest confidence stay, and then their shapes.
    """
    if sum(map(len, boxes)) + sum(map(len, chain.from_iterable(shapes))) <= room:
        return boxes, shapes
    least = [BOX + _POINT * bool(texts) for texts in shapes]
    kept: list[tuple[int, int]] = []
    for _, index, row in sorted(
        (-step, index, row) for index, text in enumerate(boxes) for row, step in enumerate(confidence_steps_of(text))
    ):
        if least[index] > room:
            break
        room -= least[index]
        kept.append((index, row))
    lengths = [0] * len(boxes)
    cut = [list[str]() for _ in boxes]
    for index, row in kept:
        lengths[index] += BOX
        if shapes[index]:
            more = len(shapes[index][row]) - _POINT
            cut[index].append(shapes[index][row] if more <= room else _NO_SHAPE)
            room -= more if more <= room else 0
    return [text[:length] for text, length in zip(boxes, lengths, strict=True)], [tuple(texts) for texts in cut]


def _simplified(places: Ints) -> Ints:
    """Return an outline of few points; of none if they are in one place."""
    ring = places.astype(np.int32)[:, None]
    tolerance = _TOLERANCE
    simple = cv2.approxPolyDP(ring, tolerance, closed=True) if len(ring) else ring
    while len(simple) > MAX_POINTS:
        tolerance *= 2
        simple = cv2.approxPolyDP(ring, tolerance, closed=True)
    return np.asarray(simple[:, 0] if len(simple) >= 3 else np.empty((0, 2)), np.int64)


def _quantized(points: Floats, detections: Detections) -> Ints:
    """Return shares of the image from -0.5 to 1.5, because a rotated box may reach out of it, in 4095ths."""
    shares = np.nan_to_num(points / np.array([detections.width, detections.height], np.float32), nan=-0.5)
    return np.rint((np.clip(shares, -0.5, 1.499) + 0.5) * (4095 / 2)).astype(np.int64)


def _shapes(kind: int, shapes: list[Ints]) -> tuple[str, ...]:
    if not shapes:
        return ()
    pairs = np.concatenate([part for places in shapes for part in ([[kind, len(places)]], places)])
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    text = base64.b64encode(packed.tobytes()).decode("ascii")
    ends = list(accumulate((_POINT * (1 + len(places)) for places in shapes), initial=0))
    return tuple(text[start:end] for start, end in pairwise(ends))

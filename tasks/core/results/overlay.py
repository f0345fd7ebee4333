"""What was found in one picture, small enough that a page holds it for ten thousand and draws it itself.

A box is 8 characters of base64: x1, y1, x2, y2 in 1023rds of width and height, 10 bits each, and 8 bits of the step of
its confidence. A shape is a head of 4 characters and 4 a point: 12 bits for x and for y. The head says what it is (0 a
rotated box, 1 keypoints, 2 the outline of a mask) and how many points there are. The script of the gallery reads both.
"""

import base64
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.core.geometry import Floats
from tasks.core.results.detections import Detections

Ints = NDArray[np.int64]

STEPS = 100  # the steps of the confidence slider
BOX = 8  # characters
MOST_BOXES = 300  # of one picture: what the graph gives for one request, only tiles give more
MOST_POINTS = 24  # of one shape
UNSEEN = 4095, 4095  # the place of a keypoint that is not to be seen

_HEAD = 4  # characters
_NO_SHAPE = "AAAA"
_ROTATED, _KEYPOINTS, _MASK = 0, 1, 2
_TOLERANCE = 1 / 320  # of the longer side: less than a pixel of a thumbnail
_VISIBLE = 0.5
# In 32 bits, as the table of detections holds confidences: what is filtered there is counted here.
_FROM = (np.arange(STEPS + 1) / STEPS).astype(np.float32)


def confidence_steps(confidence: Floats) -> Ints:
    """Return the last step of the slider at which each confidence [n] is still shown, 0 to `STEPS`."""
    return np.clip(np.searchsorted(_FROM, confidence.astype(np.float32), side="right") - 1, 0, STEPS)


def box_text(found: Detections, rows: Ints) -> str:
    """Return the boxes of these rows as text, in their order."""
    sides = np.array([found.width, found.height] * 2, np.float64)
    shares = np.nan_to_num(found.boxes[rows] / sides)
    places = np.rint(np.clip(shares, 0, 1) * 1023).astype(np.uint64)
    packed = confidence_steps(found.confidence[rows]).astype(np.uint64)
    for column, bits in enumerate((38, 28, 18, 8)):
        packed |= places[:, column] << np.uint64(bits)
    return base64.b64encode(packed.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:].tobytes()).decode("ascii")


def shape_texts(found: Detections, rows: Ints) -> tuple[str, ...]:
    """Return the outline or the keypoints of each of these rows as text; nothing where the task has neither."""
    if found.keypoints is not None:
        return tuple(_keypoints(points, found) for points in found.keypoints[rows])
    if found.polygons is not None:
        return tuple(_outline(found.polygons[row], found) for row in rows.tolist())
    return ()


def steps_of(boxes: str) -> bytes:
    """Return the steps of the confidences in a text of boxes."""
    return base64.b64decode(boxes)[5::6]


def first_rows(found: Detections) -> Ints:
    """Return the rows of the boxes that a page draws, the surest first; none where classes name the whole picture."""
    if found.is_of_whole_picture:
        return np.empty(0, np.int64)
    return np.argsort(-found.confidence, kind="stable")[:MOST_BOXES]


def fitted_to(room: int, boxes: list[str], shapes: list[tuple[str, ...]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Cut the boxes and shapes of a picture, by class and the surest first, to `room` characters.

    The surest boxes stay, and what room is left is for the shapes of the surest.
    """
    if sum(map(len, boxes)) + sum(map(len, chain.from_iterable(shapes))) <= room:
        return boxes, shapes
    least = [BOX + len(_NO_SHAPE) * bool(texts) for texts in shapes]
    rest, kept = room, list[tuple[int, int]]()
    for _, of, row in sorted(
        (-step, of, row) for of, text in enumerate(boxes) for row, step in enumerate(steps_of(text))
    ):
        if least[of] > rest:
            break
        rest -= least[of]
        kept.append((of, row))
    lengths, cut = [0] * len(boxes), [list[str]() for _ in boxes]
    for of, row in kept:
        lengths[of] += BOX
        if shapes[of]:
            more = len(shapes[of][row]) - len(_NO_SHAPE)
            cut[of].append(shapes[of][row] if more <= rest else _NO_SHAPE)
            rest -= more if more <= rest else 0
    return [text[:length] for text, length in zip(boxes, lengths, strict=True)], [tuple(texts) for texts in cut]


def _outline(ring: Floats, found: Detections) -> str:
    if len(ring) < 3:
        return _NO_SHAPE
    tolerance = _TOLERANCE * max(found.width, found.height)
    points: NDArray[Any] = ring.reshape(-1, 1, 2).astype(np.float32)
    while len(points) > MOST_POINTS or tolerance <= _TOLERANCE * max(found.width, found.height):
        points = cv2.approxPolyDP(points, tolerance, closed=True)
        tolerance *= 2
    if len(points) < 3:
        return _NO_SHAPE
    return _shape(_MASK if found.rotated is None else _ROTATED, _places(points.reshape(-1, 2), found))


def _keypoints(points: Floats, found: Detections) -> str:
    places = _places(points[:MOST_POINTS, :2], found)
    places[points[:MOST_POINTS, 2] <= _VISIBLE] = UNSEEN
    return _shape(_KEYPOINTS, places)


def _places(points: Floats, found: Detections) -> Ints:
    """Shares of the picture from -0.5 to 1.5, because a rotated box may reach out of it, in 4095ths."""
    shares = np.nan_to_num(points / np.array([found.width, found.height], np.float64), nan=-0.5)
    return np.rint((np.clip(shares, -0.5, 1.499) + 0.5) / 2 * 4095).astype(np.int64)


def _shape(kind: int, places: Ints) -> str:
    pairs = np.concatenate([[[kind, len(places)]], places])
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    return base64.b64encode(packed.tobytes()).decode("ascii")

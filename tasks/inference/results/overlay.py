"""What was found in one picture, small enough that a page holds it for ten thousand and draws it itself.

A box is 8 characters of base64: x1, y1, x2, y2 in 1023rds of width and height, 10 bits each, and 8 bits of the step of
its confidence. A shape is a head of 4 characters and 4 a point: 12 bits for x and for y. The head says what it is (0 a
rotated box, 1 keypoints, 2 the outline of a mask) and how many points there are. The script of the gallery reads both.
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
UNSEEN = 4095, 4095  # the place of a keypoint that is not to be seen

_POINT = 4  # characters, as many as the head
_ROTATED, _KEYPOINTS, _MASK = 0, 1, 2
_TOLERANCE = 6.4  # of 2048 in a side: less than a pixel of a thumbnail
_NO_SHAPE = "AAAA"
# In 32 bits, as the table of detections holds confidences: what is filtered there is counted here.
_FROM = (np.arange(STEPS + 1) / STEPS).astype(np.float32)


def confidence_steps(confidence: Floats) -> Ints:
    """Return the last step of the slider at which each confidence [n] is still shown, 0 to `STEPS`."""
    return np.clip(np.searchsorted(_FROM, confidence.astype(np.float32), side="right") - 1, 0, STEPS)


def box_text(found: Detections, rows: Ints) -> str:
    """Return the boxes of these rows as text, in their order."""
    sides = np.array([found.width, found.height] * 2, np.float64)
    shares = np.nan_to_num(found.xyxy[rows] / sides)
    places = np.rint(np.clip(shares, 0, 1) * 1023).astype(np.uint64)
    packed = confidence_steps(found.confidence[rows]).astype(np.uint64)
    for column, bits in enumerate((38, 28, 18, 8)):
        packed |= places[:, column] << np.uint64(bits)
    return base64.b64encode(packed.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:].tobytes()).decode("ascii")


def shape_texts(found: Detections, rows: Ints) -> tuple[str, ...]:
    """Return the outline or the keypoints of each of these rows as text; nothing where the task has neither."""
    if found.keypoints is not None:
        places = _places(found.keypoints[rows, :MAX_POINTS, :2], found)
        places[found.keypoints[rows, :MAX_POINTS, 2] < VISIBLE] = UNSEEN
        return _shapes(_KEYPOINTS, list(places))
    if found.polygons is not None and len(rows):
        rings = [found.polygons[row] for row in rows.tolist()]
        ends = list(accumulate(map(len, rings), initial=0))
        places = _places(np.concatenate(rings), found)
        kind = _MASK if found.xywhr is None else _ROTATED
        return _shapes(kind, [_simple(places[start:end]) for start, end in pairwise(ends)])
    return ()


def count_by_step(boxes: str) -> bytes:
    """Return the steps of the confidences in a text of boxes."""
    return base64.b64decode(boxes)[5::6]


def first_rows(found: Detections) -> Ints:
    """Return the rows of the boxes that a page draws, the surest first; none where classes name the whole picture."""
    if found.is_of_whole_picture:
        return np.empty(0, np.int64)
    return np.argsort(-found.confidence, kind="stable")[:MAX_BOXES]


def fit_to_room(room: int, boxes: list[str], shapes: list[tuple[str, ...]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Cut the boxes and shapes of a picture, by class and the surest first, to `room` characters.

    The surest boxes stay, and what room is left is for the shapes of the surest.
    """
    if sum(map(len, boxes)) + sum(map(len, chain.from_iterable(shapes))) <= room:
        return boxes, shapes
    least = [BOX + _POINT * bool(texts) for texts in shapes]
    rest, kept = room, list[tuple[int, int]]()
    for _, of, row in sorted(
        (-step, of, row) for of, text in enumerate(boxes) for row, step in enumerate(count_by_step(text))
    ):
        if least[of] > rest:
            break
        rest -= least[of]
        kept.append((of, row))
    lengths, cut = [0] * len(boxes), [list[str]() for _ in boxes]
    for of, row in kept:
        lengths[of] += BOX
        if shapes[of]:
            more = len(shapes[of][row]) - _POINT
            cut[of].append(shapes[of][row] if more <= rest else _NO_SHAPE)
            rest -= more if more <= rest else 0
    return [text[:length] for text, length in zip(boxes, lengths, strict=True)], [tuple(texts) for texts in cut]


def _simple(places: Ints) -> Ints:
    """An outline of few points; of none where they are in one place."""
    ring, tolerance = places.astype(np.int32)[:, None], _TOLERANCE
    simple = cv2.approxPolyDP(ring, tolerance, closed=True) if len(ring) else ring
    while len(simple) > MAX_POINTS:
        tolerance *= 2
        simple = cv2.approxPolyDP(ring, tolerance, closed=True)
    return np.asarray(simple[:, 0] if len(simple) >= 3 else np.empty((0, 2)), np.int64)


def _places(points: Floats, found: Detections) -> Ints:
    """Shares of the picture from -0.5 to 1.5, because a rotated box may reach out of it, in 4095ths."""
    shares = np.nan_to_num(points / np.array([found.width, found.height], np.float32), nan=-0.5)
    return np.rint((np.clip(shares, -0.5, 1.499) + 0.5) * (4095 / 2)).astype(np.int64)


def _shapes(kind: int, shapes: list[Ints]) -> tuple[str, ...]:
    if not shapes:
        return ()
    pairs = np.concatenate([part for places in shapes for part in ([[kind, len(places)]], places)])
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    text = base64.b64encode(packed.tobytes()).decode("ascii")
    ends = list(accumulate((_POINT * (1 + len(places)) for places in shapes), initial=0))
    return tuple(text[start:end] for start, end in pairwise(ends))

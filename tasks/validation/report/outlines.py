"""The labels of one image as outlines to draw over it, the faulty ones too: here a line is read as far as it goes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.rendering.palette import css_colour
from tasks.validation.report.groups import sanitize_text
from tasks.vision.detections import class_name

# Larger label files are not drawn: outlines would hide each other.
MAX_BYTES = 2**19
MAX_OUTLINES = 250
_MAX_CORNERS = 1600
# Numbers beyond this are pixels, or far outside the picture.
_FARTHEST = 2.0
_MARKED_BELOW = 9.0
_NAME = 40
_MAX_CLASSES = 40
_MARGIN = 0.33
_IMAGE = np.array([[0.0, 0.0], [1.0, 1.0]])


class Outline(NamedTuple):
    """One label: `corners` is float64 [k, 2], x and y as shares of the image's width and height."""

    line: int
    class_id: int
    corners: NDArray[np.float64]


class Drawing(NamedTuple):
    """Outlines of one colour as SVG path data in pixels of the picture, and what they are."""

    path: str
    colour: str
    title: str


def read_outlines(data: bytes, task: str | None) -> list[Outline]:
    """Return what can be drawn of a label file; lines without finite numbers near the image have no outline."""
    if len(data) > MAX_BYTES:
        return []
    text = data.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    outlines = [_outline(number, line.split(), task) for number, line in enumerate(text.split("\n"), 1)]
    return [outline for outline in outlines if outline is not None]


def _outline(line: int, tokens: list[str], task: str | None) -> Outline | None:
    try:
        class_id = int(float(tokens[0]))
        values = np.array(tokens[1:], np.float64)
    except (ValueError, OverflowError, IndexError):
        return None
    corners = _corners(values, task)
    if corners is None or abs(class_id) > 10**6 or not (np.abs(corners) <= _FARTHEST).all():
        return None
    return Outline(line, class_id, corners)


def _corners(values: NDArray[np.float64], task: str | None) -> NDArray[np.float64] | None:
    if len(values) == 4 or (task == "pose" and len(values) > 4):
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is left out
            left, top = values[:2] - values[2:4] / 2
            right, bottom = values[:2] + values[2:4] / 2
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return values.reshape(-1, 2) if len(values) >= 6 and len(values) % 2 == 0 else None


def draw_outlines(outlines: Sequence[Outline], names: Sequence[str], size: tuple[int, int]) -> list[Drawing]:
    """Return one drawing a class for a picture of `size` (width, height), the most frequent first."""
    corners = max(_MAX_CORNERS // max(len(outlines), 1), 4)
    by_class: dict[int, list[str]] = {}
    for outline in outlines[:MAX_OUTLINES]:
        by_class.setdefault(outline.class_id, []).append(_path(outline, size, corners))
    return [
        Drawing("".join(paths), css_colour(number), sanitize_text(class_name(names, number), _NAME))
        for number, paths in sorted(by_class.items(), key=lambda item: -len(item[1]))[:_MAX_CLASSES]
    ]


def draw_faults(outlines: Sequence[Outline], names: Sequence[str], size: tuple[int, int]) -> list[Drawing]:
    """Return one drawing an outline; those too small to be seen get a ring around them."""
    return [
        Drawing(
            _path(outline, size, 100) + _ring(outline, size),
            css_colour(outline.class_id),
            f"line {outline.line}: {sanitize_text(class_name(names, outline.class_id), _NAME)}",
        )
        for outline in outlines[:MAX_OUTLINES]
    ]


def view_box(outlines: Sequence[Outline], size: tuple[int, int]) -> str:
    """Return the SVG viewBox of a picture, with a margin for outlines that leave it, a third of a side at most."""
    corners = np.concatenate([_IMAGE, *(outline.corners for outline in outlines)])
    low, high = (np.clip(edge(corners, axis=0), -_MARGIN, 1 + _MARGIN) for edge in (np.min, np.max))
    # A little more, lest the line itself is cut off.
    low -= 0.02 * (low < 0)
    high += 0.02 * (high > 1)
    return " ".join(f"{number:.0f}" for number in (*low * size, *(high - low) * size))


def _path(outline: Outline, size: tuple[int, int], most: int) -> str:
    points = np.rint(outline.corners * size).astype(int)
    points = points[:: math.ceil(len(points) / most)].tolist()
    (x, y), *rest = points
    return f"M{x} {y}" + "".join(f"L{x} {y}" for x, y in rest) + "z"


def _ring(outline: Outline, size: tuple[int, int]) -> str:
    points = outline.corners * size
    if np.ptp(points, axis=0).max() >= _MARKED_BELOW:
        return ""
    x, y = np.rint(points.mean(axis=0)).astype(int)
    return f"M{x - 12} {y}a12 12 0 1 0 24 0a12 12 0 1 0-24 0"

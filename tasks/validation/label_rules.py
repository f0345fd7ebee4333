"""What looks wrong with labels that can be read: rules over the whole table at once."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.dataset.findings import FindingBatch, Severity
from tasks.dataset.labels import RANGE_TOLERANCE
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.validation.label_table import LabelTable, row_findings

MIN_OVERLAP = 0.95
MIN_PIXELS = 2.0
MAX_AREA = 0.98
MIN_CLASS_BOXES = 30
MAX_DEVIATIONS = 5.0

# A class whose boxes are all but alike has next to no deviation, so a tenth (of a logarithm) is the least that counts.
_LEAST_DEVIATION = 0.1
# Boxes that begin at nearly the same x are compared with each other, but not without end.
_MAX_STEPS = 1000
_MAX_PAIRS = 32
# Sums like 0.99 + 0.02 are off by the last digit.
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def label_findings(
    table: LabelTable, sizes: Mapping[str, tuple[int, int]], imgsz: int, class_names: Sequence[str] = ()
) -> list[FindingBatch]:
    """Return what a person should look at; `sizes` maps label files to width and height of their image in pixels.

    Pixels are those of the image scaled until its longer side is `imgsz`; without a size it counts as square, so that
    what is too small is so in any case. Only boxes are checked for overlap (detect and pose): bounding boxes would
    accuse one outline inside of another.
    """
    rows = table.rows
    pixels = _pixels(rows, sizes, imgsz)
    return [
        *_outside(rows),
        *_overlapping(rows, class_names),
        *_tiny(rows, pixels),
        *_huge(rows),
        *_outliers(rows, pixels, class_names),
    ]


def _called(class_id: int, names: Sequence[str]) -> str:
    return safe_repr(names[class_id]) if class_id < len(names) else f"class {class_id}"


def _edges(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return the lowest and highest x, y of each row, both (2, rows)."""
    centre = rows[["x", "y"]].to_numpy().T
    size = rows[["width", "height"]].to_numpy().T
    return centre - size / 2, centre + size / 2


def _pixels(rows: pd.DataFrame, sizes: Mapping[str, tuple[int, int]], imgsz: int) -> Floats:
    """Return width and height at the training size, (2, rows)."""
    images: Floats = np.array(
        [sizes.get(label, (1, 1)) for label in rows["label"].cat.categories], dtype=float
    ).reshape(-1, 2)
    scaled = images * (imgsz / images.max(axis=1, keepdims=True))
    shown = scaled[rows["label"].cat.codes] * rows[["width", "height"]].to_numpy()
    # Far below a pixel nothing matters, except that a logarithm needs more than 0.
    pixels: Floats = np.maximum(shown, 1e-9).T
    return pixels


def _outside(rows: pd.DataFrame) -> list[FindingBatch]:
    low, high = _edges(rows)
    limit = RANGE_TOLERANCE + _ROUNDING
    at = np.flatnonzero((low.min(axis=0) < -limit) | (high.max(axis=0) > 1 + limit))

    def write(row: int) -> tuple[str, str, str]:
        found = f"one from {low[0, row]:g}, {low[1, row]:g} to {high[0, row]:g}, {high[1, row]:g}"
        return "a box inside of the image (0 to 1)", found, "Clip the box to the image, or draw it again."

    return row_findings(rows, at, Code.LABEL_OUTSIDE, Severity.WARNING, write)


def _tiny(rows: pd.DataFrame, pixels: Floats) -> list[FindingBatch]:
    at = np.flatnonzero(pixels.min(axis=0) < MIN_PIXELS)

    def write(row: int) -> tuple[str, str, str]:
        width, height = pixels[:, row]
        expected = f"at least {MIN_PIXELS:g} pixels a side at the training size"
        fix = "Train at a larger imgsz, cut the images into tiles, or take the label out if it is a slip."
        return expected, f"{width:.2g} x {height:.2g}", fix

    return row_findings(rows, at, Code.LABEL_TINY, Severity.INFO, write)


def _huge(rows: pd.DataFrame) -> list[FindingBatch]:
    low, high = _edges(rows)
    seen = np.prod(np.minimum(high, 1) - np.maximum(low, 0), axis=0)
    area = np.where(rows["corners"] == 0, seen, rows["area"])
    at = np.flatnonzero(area > MAX_AREA)

    def write(row: int) -> tuple[str, str, str]:
        fix = "Nothing, if the object fills the picture; a label for the picture as a whole belongs to classify."
        return f"a label of at most {MAX_AREA:.0%} of the image", f"one of {area[row]:.1%}", fix

    return row_findings(rows, at, Code.LABEL_HUGE, Severity.INFO, write)


def _overlapping(rows: pd.DataFrame, class_names: Sequence[str]) -> list[FindingBatch]:
    """Return each box that coincides with an earlier one of its class and file, once; equal ones have a finding."""
    low, high = _edges(rows)
    at = np.flatnonzero(rows["corners"] == 0)
    lines = rows["line"].to_numpy()
    classes = rows["class_id"].to_numpy()
    owner = rows["label"].cat.codes.to_numpy().astype(np.int64) << 32 | classes
    order = at[np.lexsort((low[0, at], owner[at]))]
    earlier = np.full(len(rows), len(rows))
    equal = np.zeros(len(rows), dtype=bool)
    for one, other in _neighbours(owner[order], low[0, order], high[0, order]):
        first, second = np.sort([order[one], order[other]], axis=0)
        close = _iou(low, high, first, second) > MIN_OVERLAP
        first = first[close]
        second = second[close]
        same = ((low[:, first] == low[:, second]) & (high[:, first] == high[:, second])).all(axis=0)
        equal[second[same]] = True
        np.minimum.at(earlier, second, first)

    def write(row: int) -> tuple[str, str, str]:
        expected = f"at most {MIN_OVERLAP:.0%} of two boxes of {_called(classes[row], class_names)}"
        found = f"{_iou(low, high, earlier[row], row):.1%} in common with line {lines[earlier[row]]}"
        return expected, found, "Take one of the two boxes out, unless there really are two objects."

    overlapping = np.flatnonzero((earlier < len(rows)) & ~equal)
    return row_findings(rows, overlapping, Code.LABEL_OVERLAP, Severity.WARNING, write)


def _neighbours(owner: Ints, left: Floats, right: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of places of one owner, sorted by the left edge, that may have an IoU over `MIN_OVERLAP`.

    IoU is at most the common width over the width of the left box. So each box is paired with the next, the one after
    that, and so on while this holds, but at most to `_MAX_STEPS`, and to `_MAX_PAIRS` pairs a box on average.
    """
    reach = left + (1 - MIN_OVERLAP) * (right - left) + _ROUNDING
    one = np.arange(len(left))
    work = 0
    for step in range(1, _MAX_STEPS):
        one = one[: np.searchsorted(one, len(left) - step)]
        one = one[(owner[one] == owner[one + step]) & (left[one + step] <= reach[one])]
        work += len(one)
        if not len(one) or work > _MAX_PAIRS * len(left):
            return
        yield one, one + step


def _iou(low: Floats, high: Floats, one: Ints | int, other: Ints | int) -> Floats:
    sides = np.minimum(high[:, one], high[:, other]) - np.maximum(low[:, one], low[:, other])
    common = np.prod(np.maximum(sides, 0), axis=0)
    both = np.prod(high[:, one] - low[:, one], axis=0) + np.prod(high[:, other] - low[:, other], axis=0)
    shares: Floats = common / np.maximum(both - common, np.finfo(float).tiny)
    return shares


def _outliers(rows: pd.DataFrame, pixels: Floats, class_names: Sequence[str]) -> list[FindingBatch]:
    """Compare the logarithms of area and aspect ratio of each box with those of its class."""
    kind, classes = pd.factorize(rows["class_id"].to_numpy())
    counts = np.bincount(kind, minlength=len(classes))
    width, height = np.log(pixels)
    area = _deviations(width + height, kind, counts)
    ratio = _deviations(width - height, kind, counts)
    far = np.maximum(area, ratio) > MAX_DEVIATIONS
    at = np.flatnonzero(far & (counts[kind] >= MIN_CLASS_BOXES))

    def write(row: int) -> tuple[str, str, str]:
        expected = f"a box like the {counts[kind[row]]} of {_called(classes[kind[row]], class_names)}"
        size = " x ".join(f"{side:.4g}" for side in pixels[:, row])
        found = f"{size} pixels at the training size, {area[row]:.1f} standard deviations off in area"
        return expected, f"{found} and {ratio[row]:.1f} in aspect ratio", "Look whether the box or its class is a slip."

    return row_findings(rows, at, Code.OUTLIER_BOX, Severity.INFO, write)


def _deviations(values: Floats, kind: Ints, counts: Ints) -> Floats:
    """Return how many standard deviations of its kind each value is off the mean."""
    off = values - (np.bincount(kind, values, len(counts)) / counts)[kind]
    deviation = np.sqrt(np.bincount(kind, off**2, len(counts)) / counts)
    shares: Floats = np.abs(off) / np.maximum(deviation, _LEAST_DEVIATION)[kind]
    return shares

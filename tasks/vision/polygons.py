"""Polygons in bulk: the corners of many outlines one after another, and how many each has.

All functions take `corners` (c, 2) float64 and `counts` (n,) of at least 3 each, with c their sum, and return n values.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tasks.vision.geometry import Bools, Doubles, Ints

# Crossings by less than this share of the image come from rounded numbers, and nobody sees them.
CROSSING_DEPTH = 2e-5
# Real outlines have few edges above one another; only those of an attacker have more, and testing all has no end.
MAX_PAIRS_PER_CORNER = 32

_PAIRS_AT_ONCE = 1_000_000


def polygon_areas(corners: Doubles, counts: Ints) -> Doubles:
    """Return the area of each outline by the shoelace formula; NaN or infinite if numbers are too large for it."""
    after = corners[_next(counts)]
    with np.errstate(all="ignore"):
        products = corners[:, 0] * after[:, 1] - after[:, 0] * corners[:, 1]
        return np.abs(np.add.reduceat(products, _starts(counts))) / 2


def degeneracy_area(corners: Doubles, counts: Ints) -> Doubles:
    """Return how far from a line each outline is: the area of the largest triangle on its longest reach.

    The reach goes from the first corner to the one farthest from it. Unlike the area of the outline this is not 0 if
    the parts of an outline that crosses itself cancel out. NaN or infinite if numbers are too large for it.
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    with np.errstate(all="ignore"):
        reach = corners - corners[_starts(counts)][owner]
        squares = (reach**2).sum(axis=1)
        far = np.flatnonzero(squares >= np.maximum.reduceat(squares, _starts(counts))[owner])
        longest = np.zeros((len(counts), 2))
        longest[owner[far]] = reach[far]
        heights = longest[owner, 0] * reach[:, 1] - longest[owner, 1] * reach[:, 0]
        return np.asarray(np.maximum.reduceat(np.abs(heights), _starts(counts)) / 2, np.float64)


def polygon_bounds(corners: Doubles, counts: Ints) -> tuple[Doubles, Doubles]:
    """Return the lowest and the highest x, y of each outline, both (n, 2)."""
    starts = _starts(counts)
    return np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)


def self_intersects(corners: Doubles, counts: Ints) -> Bools:
    """Say which outlines cross themselves: two of their edges pass through each other by `CROSSING_DEPTH` or more.

    Outlines that touch themselves, or run back along a bridge to a hole, do not. Edges are sorted by x and compared
    with those that begin before they end. An outline with more than `MAX_PAIRS_PER_CORNER` such pairs for each corner
    is not tested, so the work grows with the number of corners only.
    """
    crosses = np.zeros(len(counts), dtype=bool)
    owner = np.repeat(np.arange(len(counts)), counts)
    after = _next(counts)
    ends = corners[after]
    low, high = np.minimum(corners, ends), np.maximum(corners, ends)
    # Outlines side by side on one axis, far enough apart: a single sort and a single search serve all of them.
    begin, end = low[:, 0] + 4.0 * owner, high[:, 0] + 4.0 * owner
    order = np.argsort(begin)
    pairs = np.searchsorted(begin[order], end[order], "right") - np.arange(1, len(order) + 1)
    work = np.bincount(owner[order], pairs, len(counts))
    pairs[(work > MAX_PAIRS_PER_CORNER * counts)[owner[order]]] = 0
    for first, second in _pairs(pairs):
        one, other = order[first], order[second]
        apart = (after[one] != other) & (after[other] != one)
        one, other = one[apart], other[apart]
        near = (low[one, 1] <= high[other, 1]) & (low[other, 1] <= high[one, 1])
        one, other = one[near], other[near]
        through = _passes(corners[one], ends[one], corners[other], ends[other])
        crosses[owner[one[through]]] = True
    return crosses


def polygons_to_xywhr(quads: Doubles) -> tuple[Bools, Bools]:
    """Say of quads (n, 4, 2) which are parallelograms, and which of those clearly stand at an angle.

    A rotated rectangle is a parallelogram in shares of width and height too, whatever the image's aspect ratio.
    """
    sides = np.linalg.norm(quads[:, 1:3] - quads[:, :2], axis=2)
    gap = np.abs(quads[:, 0] + quads[:, 2] - quads[:, 1] - quads[:, 3]).max(axis=1)
    boxes = gap <= np.minimum(0.01, 0.002 + 0.05 * sides.max(axis=1))
    longer = np.where((sides[:, 0] >= sides[:, 1])[:, None], quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 1])
    across = np.abs(longer).min(axis=1)
    return boxes, boxes & (across > np.maximum(0.005, 0.1 * sides.max(axis=1)))


def _starts(counts: Ints) -> Ints:
    return np.cumsum(counts) - counts


def _next(counts: Ints) -> Ints:
    """Return the index of the corner after each corner, round each outline."""
    after = np.arange(1, counts.sum() + 1)
    after[np.cumsum(counts) - 1] = _starts(counts)
    return after


def _pairs(following: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs of each place and the `following` places after it, about a million at a time."""
    total = np.cumsum(following)
    cuts = np.searchsorted(total, np.arange(0, total[-1] if len(total) else 0, _PAIRS_AT_ONCE), "right")
    for begin, end in pairwise([*cuts.tolist(), len(following)]):
        some = following[begin:end]
        first = np.repeat(np.arange(begin, end), some)
        yield first, first + 1 + np.arange(len(first)) - np.repeat(_starts(some), some)


def _passes(a: Doubles, b: Doubles, c: Doubles, d: Doubles) -> Bools:
    """Say whether the segments a-b and c-d pass through each other: the ends of each lie on both sides of the other."""
    return _divides(a, b, c, d) & _divides(c, d, a, b)


def _divides(a: Doubles, b: Doubles, c: Doubles, d: Doubles) -> Bools:
    along, to_c, to_d = b - a, c - a, d - a
    # A cross product is a distance from the line, times the length along it.
    depth = CROSSING_DEPTH * np.hypot(along[:, 0], along[:, 1])
    side_c = along[:, 0] * to_c[:, 1] - along[:, 1] * to_c[:, 0]
    side_d = along[:, 0] * to_d[:, 1] - along[:, 1] * to_d[:, 0]
    return (np.minimum(side_c, side_d) < -depth) & (np.maximum(side_c, side_d) > depth)

"""Masks as run lengths, in the three ways in which tools write them, and their outlines.

A hostile run length claims any size: outlines come of the places where runs begin and end, and no pixel is made.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.errors import StudioError, safe_repr
from tasks.importing.documents import Record

Mask = NDArray[np.bool_]
Rings = tuple[NDArray[np.float64], ...]
MAX_PIXELS = 2**28
MAX_CORNERS = 20_000  # of an outline of several parts: joining them takes half a second
_FEW_PAIRS = 2**14  # of corners: a tree takes longer to make


class RunLengthError(StudioError):
    """Run lengths that do not fill their mask; `what` names such a mask in a report."""

    what = "a mask whose run lengths do not fill it"


class JaggedMaskError(RunLengthError):
    """A mask whose outline has too many corners."""

    what = f"a mask of more than {MAX_CORNERS:,} corners"


class MaskSizeError(RunLengthError):
    """A mask that is larger or smaller than its image."""

    what = "a mask that has not the size of its image"


class EmptyMaskError(RunLengthError):
    """A mask of nothing."""

    what = "a mask without a pixel"


class RunLengths(Record):
    """A mask of COCO: its height and width, and run lengths column by column, as a list or as their compressed text."""

    size: tuple[int, int]
    counts: str | list[int]

    def rings(self, size: tuple[int | None, int | None] | None) -> Rings:
        """Return the outlines of the mask of an image of this height and width, as `rings_of_mask` does.

        Raises:
            MaskSizeError: It is not of the size of its image.
            RunLengthError: Its run lengths do not fill it, or it is empty or too jagged.
        """
        if self.size != size:
            raise MaskSizeError(f"Expected a mask of {size}, found one of {self.size}.")
        return rings_of_columns(self.counts, *self.size)


def rings_of_columns(counts: str | Sequence[int], height: int, width: int) -> Rings:
    """Return the outlines of COCO's run lengths, column by column, as a list or as its compressed text.

    Raises:
        RunLengthError: They do not fill the mask, or it is empty or too jagged.
    """
    runs = _uncompress(counts) if isinstance(counts, str) else _checked(counts)
    return _rings(_bounds(runs, height, width), height, by_columns=True)


def rings_of_rows(counts: Sequence[int], height: int, width: int) -> Rings:
    """Return the outlines of CVAT's run lengths, row by row.

    Raises:
        RunLengthError: They do not fill the mask, or it is empty or too jagged.
    """
    return _rings(_bounds(_checked(counts), height, width), width)


def _bounds(runs: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Return where each run of pixels of the mask begins and ends, one after another."""
    size = height * width
    if not (0 < size <= MAX_PIXELS and height > 0):
        raise RunLengthError(f"Expected a mask of 1 to {MAX_PIXELS:,} pixels, found {height} x {width}.")
    if (runs < 0).any() or (runs > size).any() or runs.sum() != size:
        raise RunLengthError(
            f"Expected run lengths that add up to {size} pixels ({height} x {width}), found {safe_repr(runs.tolist())}."
        )
    return np.cumsum(runs)[: len(runs) // 2 * 2]


def _checked(counts: Sequence[int]) -> NDArray[np.int64]:
    if not all(isinstance(count, int) and abs(count) <= MAX_PIXELS for count in counts):
        raise RunLengthError(f"Expected run lengths in whole pixels, found {safe_repr(counts)}.")
    return np.array(counts, np.int64)


def _uncompress(text: str) -> NDArray[np.int64]:
    """COCO's text: groups of 5 bits, low ones first, 0x20 goes on, 0x10 is the sign; from the third on differences."""
    runs: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        while True:
            if place == len(text) or shift > 30:
                raise RunLengthError(f"Expected run lengths of COCO, found {safe_repr(text)}, which is cut short.")
            bits = ord(text[place]) - 48
            if not 0 <= bits < 64:
                raise RunLengthError(f"Expected run lengths of COCO, found {safe_repr(text)}.")
            value |= (bits & 0x1F) << shift
            shift += 5
            place += 1
            if not bits & 0x20:
                break
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return np.array(runs, np.int64)


def rings_of_brush(numbers: Sequence[int], height: int, width: int) -> Rings:
    """Return the outlines of Label Studio's brush: a stream of bits that unpacks to 4 bytes a pixel, RGBA, row by row.

    Raises:
        RunLengthError: They do not fill the mask, or it is empty or too jagged.
    """
    if not all(isinstance(number, int) and 0 <= number < 256 for number in numbers):
        raise RunLengthError(f"Expected the bytes of a brush of Label Studio, found {safe_repr(numbers)}.")
    bits = _Bits(np.unpackbits(np.array(numbers, np.uint8)))
    count = bits.take(32)
    if count != 4 * height * width:
        raise RunLengthError(f"Expected a brush of {height} x {width} pixels, found one of {count} bytes.")
    word = bits.take(5) + 1
    if word > 8:
        raise RunLengthError(f"Expected a brush of bytes, found words of {word} bits.")
    lengths = [bits.take(4) + 1 for _ in range(4)]
    runs = [0]  # of pixels, the first of which are not in the mask
    place = 0
    while place < count:
        repeated = bits.take(1)
        run = bits.take(lengths[bits.take(2)]) + 1
        if place + run > count:
            raise RunLengthError(f"Expected a brush of {count} bytes, found a longer one.")
        pixels = (place + run) // 4 - place // 4  # whose last byte, the one for opacity, is in the run
        opacities = [(bits.take(word), pixels)] if repeated else _each_opacity(bits.take_each(word, run), place)
        for opacity, length in opacities:
            if (opacity > 127) != (len(runs) % 2 == 0):
                runs.append(0)
            runs[-1] += length
        place += run
    return rings_of_rows(runs, height, width)


def _each_opacity(values: NDArray[np.int64], place: int) -> list[tuple[int, int]]:
    return [(value, 1) for value in values[(3 - place) % 4 :: 4].tolist()]


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        self._bits = bits
        self._place = 0

    def take(self, width: int) -> int:
        return int(self.take_each(width, 1)[0])

    def take_each(self, width: int, count: int) -> NDArray[np.int64]:
        taken = self._bits[self._place : self._place + width * count]
        if len(taken) < width * count:
            raise RunLengthError("Expected a whole brush of Label Studio, found one that is cut short.")
        self._place += width * count
        return np.asarray(taken.reshape(count, width).astype(np.int64) @ (1 << np.arange(width)[::-1]), np.int64)


def rings_of_mask(mask: Mask) -> Rings:
    """Return the outlines (k, 2) of all parts of a mask [h, w] along the edges of its pixels, and of the holes in them.

    Parts run clockwise in the image and holes the other way, so that their shoelace areas add up to the number of
    pixels. Pixels that touch at a corner are of different parts.

    Raises:
        RunLengthError: It is empty, or they have more than `MAX_CORNERS` corners.
    """
    flat = np.concatenate([[False], mask.ravel(), [False]])
    return _rings(np.flatnonzero(flat[1:] != flat[:-1]), mask.shape[1])


def _rings(bounds: NDArray[np.int64], length: int, *, by_columns: bool = False) -> Rings:
    """Return the outlines of runs that begin and end at `bounds`, in a mask that goes line by line of this length."""
    flips, times = np.unique(bounds, return_counts=True)
    flips = flips[times % 2 == 1]  # runs without length, and without a gap between them
    if not len(flips):
        raise EmptyMaskError("Expected a mask with a pixel, found none.")
    begins, finishes = flips[::2], flips[1::2]
    first, last = begins // length, (finishes - 1) // length
    # Lines between these are like the one before: a run over a million lines costs what one over four does.
    lines, numbers = np.unique(np.concatenate([first, first + 1, last, last + 1]), return_inverse=True)
    initial, _, final, _ = np.split(numbers, 4)
    begins, finishes = begins + (initial - first) * length, finishes + (final - last) * length
    parts = final - initial + 1
    line = np.repeat(initial, parts) + _counted(parts)
    # An edge is numbered by its line and its place in it, 0 to length.
    starts = np.maximum(np.repeat(begins, parts), line * length) + line
    ends = np.minimum(np.repeat(finishes, parts), (line + 1) * length) + line
    below = length + 1
    edges = np.concatenate([starts, ends])
    turns = np.setxor1d(edges, edges + below, assume_unique=True)
    falling = np.intersect1d(starts, ends + below, assume_unique=True)
    rising = np.intersect1d(ends, starts + below, assume_unique=True)
    # Two outlines touch at a corner of these two kinds: it counts twice, once for the edge that comes from the left.
    double = np.concatenate([falling, rising])
    corners = np.concatenate([turns, double, double])
    if len(corners) > MAX_CORNERS:
        raise JaggedMaskError(f"Expected a mask of at most {MAX_CORNERS:,} corners, found {len(corners):,}.")
    right = np.concatenate([np.zeros(len(turns) + len(double)), np.ones(len(double))])
    lower = np.where(np.isin(corners, rising), 1 - right, right)
    is_part = np.isin(corners, starts)
    number, x = np.divmod(corners, below)
    y = lines[number]
    if by_columns:
        y, x = x, y
    across = _partners(np.lexsort((right, x, y)))
    along = _partners(np.lexsort((lower, y, x)))
    rings = []
    free = np.ones(len(corners), bool)
    for start in np.lexsort((right, x, y)).tolist():
        if not free[start]:
            continue
        ring = []
        at = start
        while free[at]:
            ring += [at, across[at]]
            free[[at, across[at]]] = False
            at = along[across[at]]
        outline = np.stack([x[ring], y[ring]], axis=1).astype(np.float64)
        rings.append(outline if is_part[start] else outline[::-1])
    return tuple(rings)


def _counted(parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, 2, ... for the parts of each run."""
    return np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)


def _partners(order: NDArray[np.int64]) -> list[int]:
    """Return for each corner the one at the other end of its edge: in this order they come in pairs."""
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return [int(each) for each in partners]


def join_rings(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return one outline (k, 2) of all rings, joined by bridges without width from the nearest corner to the nearest.

    Its area is that of the rings by the rule of even and odd, as OpenCV and Ultralytics fill outlines. The rings of one
    half of the image are joined to those of the other: their number hardly costs time, and bridges are short.
    """
    if len(rings) == 1:
        return rings[0]
    starts = np.array([ring[0] for ring in rings])
    order = starts[:, np.ptp(starts, axis=0).argmax()].argsort(kind="stable").tolist()
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    one, other = (join_rings([rings[at] for at in half]) for half in halves)
    here, there = _nearest(one, other)
    return np.concatenate([one[: here + 1], other[there:], other[: there + 1], one[here:]])


def _nearest(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[int, int]:
    """Return the corners, one of each outline, that are nearest to each other."""
    if len(one) * len(other) <= _FEW_PAIRS:
        across, down = (one[:, None, axis] - other[:, axis] for axis in (0, 1))
        return divmod(int((across * across + down * down).argmin()), len(other))
    from scipy.spatial import KDTree  # takes a second, and few masks have so many corners

    distances, nearest = KDTree(one).query(other)
    there = int(distances.argmin())
    return int(nearest[there]), there

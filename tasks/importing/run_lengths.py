"""Masks as run lengths, in the three ways in which tools write them, and masks as outlines.

A hostile run length claims any size, so each is compared with the size of its image before a pixel is made.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.errors import StudioError, safe_repr

Mask = NDArray[np.bool_]
MAX_PIXELS = 2**28
MAX_CORNERS = 20_000  # of an outline of several parts: joining them takes the square of it


class RunLengthError(StudioError):
    """Run lengths that do not fill their mask."""


def decode_coco(counts: str | Sequence[int], height: int, width: int) -> Mask:
    """Return the mask [h, w] of COCO's run lengths, column by column, as a list or as its compressed text.

    Raises:
        RunLengthError: They do not fill the mask.
    """
    runs = _uncompress(counts) if isinstance(counts, str) else _checked(counts)
    return _fill(runs, height, width).reshape(width, height).T


def decode_rows(counts: Sequence[int], height: int, width: int) -> Mask:
    """Return the mask [h, w] of CVAT's run lengths, row by row.

    Raises:
        RunLengthError: They do not fill the mask.
    """
    return _fill(_checked(counts), height, width).reshape(height, width)


def _fill(runs: NDArray[np.int64], height: int, width: int) -> Mask:
    size = height * width
    if not 0 < size <= MAX_PIXELS:
        raise RunLengthError(f"Expected a mask of 1 to {MAX_PIXELS:,} pixels, found {height} x {width}.")
    if (runs < 0).any() or (runs > size).any() or runs.sum() != size:
        raise RunLengthError(
            f"Expected run lengths that add up to {size} pixels ({height} x {width}), found {safe_repr(runs.tolist())}."
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs)


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


def decode_label_studio(numbers: Sequence[int], height: int, width: int) -> Mask:
    """Return the mask [h, w] of Label Studio's brush: a stream of bits that unpacks to 4 bytes a pixel, RGBA.

    Raises:
        RunLengthError: They do not fill the mask.
    """
    if not all(isinstance(number, int) and 0 <= number < 256 for number in numbers):
        raise RunLengthError(f"Expected the bytes of a brush of Label Studio, found {safe_repr(numbers)}.")
    bits = _Bits(np.unpackbits(np.array(numbers, np.uint8)))
    count = bits.take(32)
    if count != 4 * height * width or not 0 < height * width <= MAX_PIXELS:
        raise RunLengthError(f"Expected a brush of {height} x {width} pixels, found one of {count} bytes.")
    word = bits.take(5) + 1
    if word > 8:
        raise RunLengthError(f"Expected a brush of bytes, found words of {word} bits.")
    lengths = [bits.take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        repeated = bits.take(1)
        run = bits.take(lengths[bits.take(2)]) + 1
        if place + run > count:
            raise RunLengthError(f"Expected a brush of {count} bytes, found a longer one.")
        values[place : place + run] = bits.take(word) if repeated else bits.take_each(word, run)
        place += run
    return np.asarray(values.reshape(height, width, 4)[:, :, 3] > 127, np.bool_)


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


def mask_to_rings(mask: Mask) -> tuple[NDArray[np.float64], ...]:
    """Return the outlines (k, 2) of all parts of a mask along the edges of its pixels, and of the holes in them.

    Parts run clockwise in the image and holes the other way, so that their shoelace areas add up to the number of
    pixels. Pixels that touch at a corner are of different parts.

    Raises:
        RunLengthError: They have more than `MAX_CORNERS` corners.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return ()
    top, left = rows[0], columns[0]
    padded = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    above, below = padded[:-1], padded[1:]
    one, two, three, four = above[:, :-1], above[:, 1:], below[:, :-1], below[:, 1:]  # round each corner of a pixel
    turns = one ^ two ^ three ^ four
    falling = one & four & ~two & ~three
    rising = two & three & ~one & ~four
    # Two outlines touch at a corner of these two kinds: it counts twice, once for the edge that comes from the left.
    double = np.argwhere(falling | rising)
    corners = np.concatenate([np.argwhere(turns), double, double])
    if len(corners) > MAX_CORNERS:
        raise RunLengthError(f"Expected an outline of a mask of at most {MAX_CORNERS:,} corners, found {len(corners)}.")
    right = np.concatenate([np.zeros(int(turns.sum())), np.zeros(len(double)), np.ones(len(double))])
    lower = np.where(rising[corners[:, 0], corners[:, 1]], 1 - right, right)
    y, x = corners[:, 0], corners[:, 1]
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
        outline = np.stack([x[ring] + left, y[ring] + top], axis=1).astype(np.float64)
        rings.append(outline if four[y[start], x[start]] else outline[::-1])
    return tuple(rings)


def _partners(order: NDArray[np.int64]) -> list[int]:
    """Return for each corner the one at the other end of its edge: in this order they come in pairs."""
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return [int(each) for each in partners]


def join_rings(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return one outline (k, 2) of all rings, joined by bridges without width from the nearest corner to the nearest.

    Its area is that of the rings by the rule of even and odd, as OpenCV and Ultralytics fill outlines.
    """
    outline, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        across, down = (outline[:, None, axis] - ring[:, axis] for axis in (0, 1))
        squares = across * across + down * down
        here, there = np.unravel_index(int(squares.argmin()), squares.shape)
        turned = np.concatenate([ring[there:], ring[: there + 1]])
        outline = np.concatenate([outline[: here + 1], turned, outline[here:]])
    return outline

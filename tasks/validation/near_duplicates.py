"""Which pictures are nearly the same, by a perceptual hash and by their thumbnails.

The hash is the signs of the 63 lowest frequencies of the thumbnail's cosine transform (Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010), which brightness and contrast do not change. All pairs are
compared, a block at a time, so memory stays flat. Thumbnails are compared without what all images of the archive share
(the layout of a form, the view of a fixed camera), and no cell may differ much: there may be an object in one alone.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.vision.grey_stats import THUMBNAIL_SIDE

# Bits of 63. Measured on blood cells and street scenes: other quality, size or brightness changes up to 4 bits, 2 % cut
# off each side up to 12, and different blood cells differ in 12 at least.
NEAR_BITS = 12
# Of thumbnails without what all share. The same measurement: cut ones 0.93 at least, different cells 0.75 at most.
NEAR_CORRELATION = 0.92
# Of thumbnails as they are: re-encoded, resized and brightened ones have 0.999 at least, pages of print of one layout
# 0.97. It is for an archive of one picture, in which all is shared.
SAME_CORRELATION = 0.98
# How far one cell may be from the other picture's, in standard deviations, after brightness and contrast were made the
# same: an object that is there in one of them alone. Re-encoded and resized pictures have 0.3 at most, 1 % cut off each
# side gives 0.35 to 0.65; drawn scenes with an object more have 0.76 at least, however alike the rest is.
MAX_CELL_DIFFERENCE = 0.65
# With fewer images the mean does not show what all share.
MIN_IMAGES_FOR_MEAN = 20
# A thumbnail shows enough if this share of its cells differs from their mean by more than so many levels. The plainest
# blood cells have 0.14; a light in the night has 0.02.
MIN_BUSY_SHARE = 0.06
BUSY_LEVELS = 12
_ROWS = 32
_COLUMNS = 4096
# Candidates of one image that are looked at in one block, the nearest first, and how many may fail before it is left.
_TRIES = 2
_MAX_FAILED = 8
_FAR = 255
_MAX_THREADS = 8

_Thumbnails = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]
_Hashes = npt.NDArray[np.uint64]


class NearDuplicate(NamedTuple):
    """Two places in the list of thumbnails: `later` is near to `first`, by bits of 63 of the hash and correlation."""

    later: int
    first: int
    bits: int
    correlation: float


def find_near_duplicates(
    thumbnails: _Thumbnails, groups: Sequence[int], wanted: Sequence[bool]
) -> Iterator[NearDuplicate]:
    """Yield each wanted picture that is near to an earlier one, of another group if possible.

    `thumbnails` is uint8 [n, 256]; `groups` numbers sets of splits, 0 for none. Pictures that show too little to be
    compared are left out.
    """
    busy = np.flatnonzero(_is_busy(thumbnails))
    search = _Search(thumbnails[busy], np.asarray(groups, np.int64)[busy], np.asarray(wanted, bool)[busy])
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for matches in pool.map(search.block, range(0, len(busy), _ROWS)):
            for later, first, bits, correlation in matches:
                yield NearDuplicate(int(busy[later]), int(busy[first]), bits, correlation)


def _is_busy(thumbnails: _Thumbnails) -> npt.NDArray[np.bool_]:
    """Return which thumbnails show enough to be compared, [n, 256] -> [n]."""
    means = thumbnails.mean(axis=1, keepdims=True, dtype=np.float32).astype(np.uint8)
    away = np.maximum(thumbnails, means) - np.minimum(thumbnails, means) > BUSY_LEVELS
    return np.asarray(away.mean(axis=1) > MIN_BUSY_SHARE)


def _standard(thumbnails: _Thumbnails) -> _Floats:
    """Take brightness and contrast from thumbnails: each row gets the mean 0 and the length 1."""
    rows = thumbnails.astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _hash(rows: _Floats) -> _Hashes:
    steps = np.pi * (2 * np.arange(THUMBNAIL_SIDE) + 1) / (2 * THUMBNAIL_SIDE)
    waves = np.cos(np.outer(np.arange(8), steps))
    # The first wave in both directions is the mean.
    basis = np.einsum("ux,vy->uvxy", waves, waves).reshape(64, -1)[1:].astype(np.float32)
    signs = np.packbits(rows @ basis.T > 0, axis=1)
    return np.ascontiguousarray(signs).view(np.uint64).ravel()


class _Matches:
    """The match of some rows, as (first, bits apart, correlation), and how often a row had none."""

    def __init__(self) -> None:
        self.by_row: dict[int, tuple[int, int, float]] = {}
        self._failed: Counter[int] = Counter()

    def wants(self, later: int) -> bool:
        """Return whether a row has no match yet and is worth another try."""
        return later not in self.by_row and self._failed[later] < _MAX_FAILED

    def add(self, later: int, match: tuple[int, int, float]) -> None:
        """Keep a match, or count a failure if the correlation is 0."""
        if match[2] > 0:
            self.by_row[later] = match
        else:
            self._failed[later] += 1


class _Search:
    """Compares each thumbnail that is `wanted` with all before it. `groups` numbers sets of splits, 0 for none."""

    def __init__(self, thumbnails: _Thumbnails, groups: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_]) -> None:
        self._thumbnails = thumbnails
        self._groups = groups
        self._wanted = wanted
        if len(np.unique(groups[groups > 0])) < 2:
            self._groups = np.zeros_like(groups)
        self._hashes = np.empty(len(thumbnails), np.uint64)
        shared = np.zeros(thumbnails.shape[1])
        for start in range(0, len(thumbnails), _COLUMNS):
            rows = _standard(thumbnails[start : start + _COLUMNS])
            self._hashes[start : start + _COLUMNS] = _hash(rows)
            shared += rows.sum(axis=0)
        enough = len(thumbnails) >= MIN_IMAGES_FOR_MEAN
        self._shared = (shared / len(thumbnails) if enough else np.zeros_like(shared)).astype(np.float32)

    def apart(self, later: npt.NDArray[np.int64] | int, first: slice | int) -> npt.NDArray[np.bool_]:
        """Return which images are in different splits."""
        own = self._groups[later]
        other = self._groups[first]
        return np.asarray((own != other) & (own > 0) & (other > 0))

    def block(self, start: int) -> list[tuple[int, int, int, float]]:
        """Return (later, first, bits apart, correlation) for the rows from `start` that are near to an earlier one."""
        rows = start + np.flatnonzero(self._wanted[start : start + _ROWS])
        leaks = _Matches()
        others = _Matches()
        for column in range(0, start + _ROWS, _COLUMNS):
            if not rows.size:
                break
            columns = slice(column, min(column + _COLUMNS, start + _ROWS))
            bits = np.bitwise_count(self._hashes[rows, None] ^ self._hashes[columns])
            if columns.stop > start:
                bits[np.arange(column, column + bits.shape[1]) >= rows[:, None]] = _FAR
            if bits.min() > NEAR_BITS:
                continue
            apart = self.apart(rows[:, None], columns)
            if apart.any():
                self._match(rows, column, np.where(apart, bits, np.uint8(_FAR)), leaks)
                bits[apart] = _FAR
            self._match(rows, column, bits, others)
            # What has a twin of another split needs no more, nor what has any and could have none of another.
            rows = np.array([at for at in rows if (leaks if self._groups[at] else others).wants(int(at))], np.int64)
        return [(later, *match) for later, match in (others.by_row | leaks.by_row).items()]

    def _match(self, rows: npt.NDArray[np.int64], column: int, bits: npt.NDArray[np.uint8], matches: _Matches) -> None:
        """Confirm the nearest candidates of each row that still wants one; changes `bits`, [rows, columns]."""
        for _ in range(_TRIES):
            nearest = bits.argmin(axis=1)
            best = bits[np.arange(len(rows)), nearest]
            tried = [at for at, row in enumerate(rows) if best[at] <= NEAR_BITS and matches.wants(int(row))]
            if not tried:
                return
            correlation = self._correlation(rows[tried], column + nearest[tried])
            for at, value in zip(tried, correlation, strict=True):
                matches.add(int(rows[at]), (int(column + nearest[at]), int(best[at]), float(value)))
            bits[tried, nearest[tried]] = _FAR

    def _correlation(self, later: npt.NDArray[np.int64], first: npt.NDArray[np.int64]) -> _Floats:
        """Return how alike pairs of thumbnails are, or 0 for those that are not near."""
        one = _standard(self._thumbnails[later])
        other = _standard(self._thumbnails[first])
        whole = (one * other).sum(axis=1)
        # Each row has the length 1, so its standard deviation is 1 by the root of the number of cells.
        apart = np.abs(other - whole[:, None] * one).max(axis=1) * THUMBNAIL_SIDE
        one -= self._shared
        other -= self._shared
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        own = (one * other).sum(axis=1) / np.maximum(lengths, 1e-6)
        near = np.where(whole >= SAME_CORRELATION, whole, np.where(own >= NEAR_CORRELATION, own, 0))
        return np.where(apart <= MAX_CELL_DIFFERENCE, near, 0).astype(np.float32)

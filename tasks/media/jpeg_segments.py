"""The segments of a JPEG file, for all readers of its header; they differ in the bytes that may stand between segments.

Only the standard library is used: model `predict` (model_repository) has this very file, as a link.
"""

import re
from collections.abc import Callable, Iterator
from mmap import mmap

# Far more than any camera writes.
MAX_SEGMENTS = 10_000
END_OF_IMAGE = 0xD9
START_OF_SCAN = 0xDA
APP1 = 0xE1
# Without DHT (C4), JPG (C8) and DAC (CC).
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM, RST0 to RST7, SOI and EOI have no length.
STANDALONE = frozenset({0x01, *range(0xD0, 0xDA)})

ANY_MARKER = re.compile(rb"\xff[^\x00\xff]")
# The end of the data of a scan: a marker with a length.
AFTER_SCAN = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

Data = bytes | mmap


def jpeg_segments(
    data: Data, at: int = 2, find: Callable[[Data, int], re.Match[bytes] | None] = ANY_MARKER.search
) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, offset behind the marker, end) of each segment from `at` on; the data of a scan is skipped.

    `find(data, at)` returns a match that ends with the next marker; the default skips any bytes before it.
    """
    find_next = find
    while match := find_next(data, at):
        start = match.end()
        marker = data[start - 1]
        at = start if marker in STANDALONE else start + max(int.from_bytes(data[start : start + 2]), 2)
        yield marker, start, at
        find_next = AFTER_SCAN.search if marker == START_OF_SCAN else find


def frame_size(data: Data, at: int) -> tuple[int, int] | None:
    """Return the width and height, in pixels, that the start of a frame at `at` says; None if the file ends before."""
    sides = data[at + 3 : at + 7]
    return (int.from_bytes(sides[2:]), int.from_bytes(sides[:2])) if len(sides) == 4 else None

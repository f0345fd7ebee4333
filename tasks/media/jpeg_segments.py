"""The segments of a JPEG file: one walk for all who read its header; they differ in what they allow between segments.

Only the standard library is used: model `predict` (model_repository) has this very file, as a link.
"""

import re
from collections.abc import Callable, Iterator
from mmap import mmap

# Far more than any camera writes.
MAX_SEGMENTS = 10_000
END_OF_IMAGE, START_OF_SCAN, APP1 = 0xD9, 0xDA, 0xE1
# But for DHT (C4), JPG (C8) and DAC (CC), which only look like one.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM, RST0 to RST7, SOI and EOI have no length.
STANDALONE = frozenset({0x01, *range(0xD0, 0xDA)})

ANY_MARKER = re.compile(rb"\xff[^\x00\xff]")
# What ends the data of a scan: a marker that does not stand alone.
AFTER_SCAN = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

Data = bytes | mmap


def jpeg_segments(
    data: Data, at: int = 2, find: Callable[[Data, int], re.Match[bytes] | None] = ANY_MARKER.search
) -> Iterator[tuple[int, int, int]]:
    """Yield the segments from `at` on, until `find` finds no marker; the data of a scan is passed over.

    Of each its marker, the place behind the marker, at which its length stands if it has one, and its end.
    `find(data, at)` returns a match whose last byte is the marker's. By itself whatever stands between is passed over.
    """
    following = find
    while found := following(data, at):
        start = found.end()
        marker = data[start - 1]
        at = start if marker in STANDALONE else start + max(int.from_bytes(data[start : start + 2]), 2)
        yield marker, start, at
        following = AFTER_SCAN.search if marker == START_OF_SCAN else find


def frame_size(data: Data, at: int) -> tuple[int, int] | None:
    """Return the width and height, in pixels, that the start of a frame at `at` says; None if the file ends before."""
    sides = data[at + 3 : at + 7]
    return (int.from_bytes(sides[2:]), int.from_bytes(sides[:2])) if len(sides) == 4 else None

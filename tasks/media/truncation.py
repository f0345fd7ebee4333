"""Video files that are cut off: FFmpeg ends them without an error."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_MAX_BOXES = 100_000
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def count_missing_bytes(path: Path) -> int:
    """Return how many bytes are missing by the lengths that MP4, MOV, MKV, WebM and AVI hold; 0 for other formats."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp":
            return _boxes_missing(file, size, _mp4_length)
        if head[:4] == b"RIFF":
            return _boxes_missing(file, size, _riff_length)
        return _segment_missing(file, size) if head[:4] == _EBML else 0


def _boxes_missing(file: BinaryIO, size: int, length_of: Callable[[bytes, int], int]) -> int:
    end = 0
    for _ in range(_MAX_BOXES):
        file.seek(end)
        length = length_of(file.read(16), size - end)
        if length < 8:
            return 0
        end += length
        if end >= size:
            return end - size
    return 0


def _mp4_length(head: bytes, rest: int) -> int:
    if len(head) < 8:
        return 0
    length = int(struct.unpack_from(">I", head)[0])
    if length == 1 and len(head) == 16:
        return int(struct.unpack_from(">Q", head, 8)[0])
    return length or rest


def _riff_length(head: bytes, _rest: int) -> int:
    if len(head) < 8 or head[:4] != b"RIFF":
        return 0
    length = int(struct.unpack_from("<I", head, 4)[0])
    return 8 + length + length % 2


def _segment_missing(file: BinaryIO, size: int) -> int:
    file.seek(0)
    head = file.read(4096)
    start = 4 + _width(head[4:])
    start += _number(head[4:])
    if head[start : start + 4] != _SEGMENT:
        return 0
    length = head[start + 4 :]
    width = _width(length)
    # A recorder that never closed its file leaves the length open: all ones.
    if not 0 < width <= len(length) or _number(length) == (1 << 7 * width) - 1:
        return 0
    return max(start + 4 + width + _number(length) - size, 0)


def _width(data: bytes) -> int:
    return 9 - data[0].bit_length() if data and data[0] else 0


def _number(data: bytes) -> int:
    width = _width(data)
    return int.from_bytes(data[:width]) & ((1 << 7 * width) - 1)

"""The kind of a file and the size of an image by its first bytes, before anything is decoded.

A decoder believes the header: a few kilobytes may unpack to many gigabytes.
"""

import re
import struct
from enum import StrEnum
from itertools import islice
from mmap import mmap
from pathlib import PurePosixPath

from tasks.media.formats import IMAGE_ENDINGS, VIDEO_ENDINGS
from tasks.media.jpeg_segments import (
    END_OF_IMAGE,
    MAX_SEGMENTS,
    START_OF_FRAME,
    START_OF_SCAN,
    frame_size,
    jpeg_segments,
)

HEAD_BYTES = 400
# Offsets of 64 bits, for files of more than 4 GiB: nothing here reads them.
BIG_TIFF = (b"II+\0", b"MM\0+")
# FF00 is no marker: libjpeg skips it. Bounded, because a file may hold nothing else.
_NEXT_MARKER = re.compile(rb"(?:\xff{1,65536}+\x00){0,1000}+\xff{1,65536}+[^\x00\xff]")
# A comment ends at either end of line, as in OpenCV.
_PNM = re.compile(rb"P[1-6]\s+(?:#[^\r\n]*[\r\n]\s*)*(\d{1,9})\s+(?:#[^\r\n]*[\r\n]\s*)*(\d{1,9})\s")
_TIFF_SHORT = 3
_TIFF_LONG = 4
_CODESTREAM = b"\xff\x4f\xff\x51"
_MAX_PNM_HEADER = 65_536
# A real file has fewer than ten before its codestream.
_MAX_BOXES = 1000


class MediaKind(StrEnum):
    """The kinds of files that batch inference tells apart."""

    IMAGE = "image"
    VIDEO = "video"
    ARCHIVE = "archive"
    UNKNOWN = "unknown"


def sniff_kind(name: str, head: bytes) -> MediaKind:
    """Return the kind of a file by its first `HEAD_BYTES` bytes, or by its ending if they say nothing."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return MediaKind.ARCHIVE
    if _is_image(head):
        return MediaKind.IMAGE
    if _is_video(head):
        return MediaKind.VIDEO
    ending = PurePosixPath(name).suffix.lower()
    if ending in IMAGE_ENDINGS:
        return MediaKind.IMAGE
    if ending in VIDEO_ENDINGS:
        return MediaKind.VIDEO
    return MediaKind.ARCHIVE if ending == ".zip" else MediaKind.UNKNOWN


def image_size(data: bytes | mmap) -> tuple[int, int] | None:
    """Return (width, height) in pixels as the header claims, or None if there is no readable header."""
    try:
        return _size(data)
    except (struct.error, IndexError):
        return None


def _is_image(head: bytes) -> bool:
    signatures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", _CODESTREAM)
    return (
        head.startswith((*signatures, *BIG_TIFF))
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in {b"avif", b"avis"})
        or head[4:12] == b"jP  \r\n\x87\n"
        or _PNM.match(head) is not None
    )


def _is_video(head: bytes) -> bool:
    signatures = (b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\x30\x26\xb2\x75")
    return (
        head.startswith(signatures)
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[4:8] == b"ftyp" and head[8:12] not in {b"avif", b"avis", b"heic", b"heix", b"mif1"})
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _size(data: bytes | mmap) -> tuple[int, int] | None:  # noqa: PLR0911  one line a format
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:4] == b"\x89PNG":
        return _unpack(">II", data, 16)
    if data[:4] == b"GIF8":
        return _unpack("<HH", data, 6)
    if data[:2] == b"BM":
        return _bmp_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:4] in {b"II*\0", b"MM\0*"}:
        return _tiff_size(data, "<" if data[:1] == b"I" else ">")
    if data[4:8] == b"ftyp":
        return _avif_size(data)
    if data[:4] == _CODESTREAM:
        return _unpack(">II", data, 8)
    if data[4:12] == b"jP  \r\n\x87\n":
        return _jp2_size(data)
    match = _PNM.match(data, 0, _MAX_PNM_HEADER)
    return (int(match[1]), int(match[2])) if match else None


def _unpack(layout: str, data: bytes | mmap, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, data, offset)
    return int(first), int(second)


def _jpeg_size(data: bytes | mmap) -> tuple[int, int] | None:
    for marker, at, _ in islice(jpeg_segments(data, find=_NEXT_MARKER.match), MAX_SEGMENTS):
        if marker in START_OF_FRAME:
            return frame_size(data, at)
        if marker in {START_OF_SCAN, END_OF_IMAGE}:
            break
    return None


def _bmp_size(data: bytes | mmap) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return _unpack("<HH", data, 18)
    width, height = _unpack("<ii", data, 18)
    return abs(width), abs(height)


def _webp_size(data: bytes | mmap) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if data[12:16] == b"VP8 ":
        width, height = _unpack("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff_size(data: bytes | mmap, order: str) -> tuple[int, int] | None:
    start = struct.unpack_from(order + "I", data, 4)[0]
    sides: dict[int, int] = {}
    for index in range(struct.unpack_from(order + "H", data, start)[0]):
        entry = start + 2 + 12 * index
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        # Of a tag that comes twice, libtiff takes the first.
        if tag not in {256, 257} or tag in sides:
            continue
        if kind not in {_TIFF_SHORT, _TIFF_LONG}:
            return None
        sides[tag] = struct.unpack_from(order + ("H" if kind == _TIFF_SHORT else "I"), data, entry + 8)[0]
    return (sides[256], sides[257]) if len(sides) == 2 else None


def _jp2_size(data: bytes | mmap) -> tuple[int, int] | None:
    offset = 0
    for _ in range(_MAX_BOXES):
        length, kind = struct.unpack_from(">I4s", data, offset)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, offset + 8)[0], 16
        if kind == b"jp2c":
            start = offset + head
            return _unpack(">II", data, start + 8) if data[start : start + 4] == _CODESTREAM else None
        if not head <= length <= len(data):
            return None
        offset += length
    return None


def _avif_size(data: bytes | mmap) -> tuple[int, int] | None:
    # A file may hold a grid and a thumbnail: the largest is decoded.
    sizes = [_unpack(">II", data, match.end() + 4) for match in re.finditer(rb"ispe", data[:65_536])]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)

"""The images that are too costly to decode, by their bytes alone: one rule for all readers of images.

A header that claims few pixels is not enough: every scan of a progressive JPEG goes over all of them again, a text in a
PNG may unpack to gigabytes, and a TIFF of one pixel may lie in a tile of a billion. An image within these bounds takes
at most about ten times as long as an ordinary one of its size and kind.

Only the standard library and its neighbour are used: model `predict` (model_repository) has this very file, as a link.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from .jpeg_segments import AFTER_SCAN, END_OF_IMAGE, MAX_SEGMENTS, START_OF_FRAME, START_OF_SCAN, jpeg_segments

# Cameras and editors write about 10 scans, libjpeg's script for CMYK 18. One takes a tenth of an ordinary decode.
MAX_SCANS = 64
# Fill bytes enough to begin each segment at a page of memory.
MAX_FILLING = 65_536
MAX_CHUNKS = 100_000
# libpng unpacks each text of a PNG, and keeps it.
MAX_TEXT_BYTES = 16 << 20
# Ultralytics decodes all pages of a TIFF each time it reads the first.
MAX_PAGES = 100
MAX_TILE_PIXELS = 4 << 20
MAX_PACKETS = 1_000_000
MIN_PRECINCT = 5  # a power of 2, in pixels

# OpenCV empties a table of 4,096 entries at each clear code of a GIF, in 5 microseconds. Encoders write one for some
# thousands of pixels; those that compress nothing, one for 62 (of 6 bits a pixel; of 8, for 254).
PIXELS_PER_CLEAR = 60
MIN_CLEARS = 1000
MAX_BLOCKS = 10_000
_LZW_BITS = 12
_PARTS = 256  # blocks of a GIF, of at most 255 bytes, that are looked at together

_TIFF_SIZES = {3: "H", 4: "I"}
# Tags of a TIFF.
_WIDTH = 256
_HEIGHT = 257
_METHOD = 259
_STRIP_BYTES = 279
_TILE_WIDTH = 322
_TILE_HEIGHT = 323
_TILE_BYTES = 325
_JPEG_IN_TIFF = {6, 7}
_CODESTREAM = b"\xff\x4f\xff\x51"


def too_costly(data: bytes) -> str:
    """Return why an image file is too costly to decode, such as `5010 scans`; an empty text if it is not.

    Never raises; bytes of no known format are not costly.
    """
    rule = next((rule for head, rule in _RULES if data.startswith(head)), None)
    try:
        return rule(data) if rule else ""
    except (struct.error, IndexError, zlib.error):
        return ""


def _jpeg(data: bytes) -> str:
    end = 2
    filling = 0
    frame = (0, 0)
    segments = jpeg_segments(data)
    for marker, at, following in islice(segments, MAX_SEGMENTS):
        filling += at - 2 - end
        end = following
        if filling > MAX_FILLING:
            return f"{filling} bytes between its segments"
        if marker == START_OF_SCAN:
            # In a sequential JPEG whose first scan holds all channels, nothing may follow.
            plain = frame == (frame[0] & 0xC1, data[at + 2])
            return "" if plain else _scans(data, at, end)
        if marker in START_OF_FRAME:
            frame = marker, data[at + 7]
    return f"more than {MAX_SEGMENTS} segments" if next(segments, None) else ""


def _scans(data: bytes, at: int, end: int) -> str:
    """Count the scans up to the end mark. Such bytes may be elsewhere too, but never fewer than there are scans."""
    if data.count(b"\xff\xda", at) < MAX_SCANS:
        return ""
    scans = 1
    segments = jpeg_segments(data, end, AFTER_SCAN.search)
    for marker, _, _ in islice(segments, MAX_SEGMENTS):
        if marker == END_OF_IMAGE:
            break
        scans += marker == START_OF_SCAN
    else:
        if scans <= MAX_SCANS and next(segments, None):
            return f"more than {MAX_SEGMENTS} segments"
    return f"{scans} scans" if scans > MAX_SCANS else ""


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2])


def _png(data: bytes) -> str:
    at = 8
    text = 0
    for _ in range(MAX_CHUNKS):
        size = int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if kind in {b"", b"IEND"}:
            return ""
        if kind in {b"zTXt", b"iTXt", b"iCCP"}:
            text += _unpacked(data[at + 8 : at + 8 + size], kind, MAX_TEXT_BYTES - text)
            if text > MAX_TEXT_BYTES:
                return f"texts that unpack to more than {MAX_TEXT_BYTES} bytes"
        at += 12 + size
    return f"more than {MAX_CHUNKS} chunks"


def _unpacked(chunk: bytes, kind: bytes, most: int) -> int:
    """Return how many bytes a text or a profile unpacks to; one more than `most` at most."""
    _, _, rest = chunk.partition(b"\0")
    method, rest = rest[:1], rest[1:]
    if kind == b"iTXt":
        if method != b"\1":
            return 0
        rest = b"".join(rest[1:].split(b"\0", 2)[2:])
    try:
        return len(zlib.decompressobj().decompress(rest, most + 1))
    except zlib.error:
        return 0


def _gif(data: bytes) -> str:
    """Of all frames the first alone is decoded."""
    at = 13 + _palette(data[10])
    blocks = 0
    most = MAX_BLOCKS + len(data) // 64
    while blocks <= most and data[at] == 0x21:
        at, _, blocks = _sub_blocks(data, at + 2, blocks + 1, most)
    pixels = 0
    parts: list[bytes] = []
    if blocks <= most and data[at] == 0x2C:
        width, height = struct.unpack_from("<HH", data, at + 5)
        pixels = width * height
        start = at + 10 + _palette(data[at + 9])
        _, parts, blocks = _sub_blocks(data, start + 1, blocks, most)
        clears = pixels // PIXELS_PER_CLEAR + MIN_CLEARS
        if 1 < data[start] < _LZW_BITS and _clears(parts, data[start], clears) > clears:
            return f"more than {clears} clear codes for {pixels} pixels"
    return f"more than {most} blocks" if blocks > most else ""


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _sub_blocks(data: bytes, at: int, blocks: int, most: int) -> tuple[int, list[bytes], int]:
    """Return the end of a chain of blocks, their contents, and `blocks` plus their number, which stops after `most`."""
    parts = []
    while blocks <= most and at < len(data) and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
        blocks += 1
    return at + 1, parts, blocks


def _clears(parts: list[bytes], size: int, most: int) -> int:
    """Count the clear codes of a frame up to `most` + 1. After each the codes are short again, and then ever longer."""
    clear = 1 << size
    end = clear + 1
    clear_count = 0
    texts = {bits: (_lowest_first(clear, bits), _lowest_first(end, bits)) for bits in range(size + 1, _LZW_BITS + 1)}
    others = {bits: re.compile(f"(?:(?!{'|'.join(text)}).{{{bits}}})*") for bits, text in texts.items()}
    rest = ""
    bits = size + 1
    left = 1 << size  # codes of this length
    for start in range(0, len(parts), _PARTS):
        packed = b"".join(parts[start : start + _PARTS])
        rest += _lowest_first(int.from_bytes(packed, "little"), 8 * len(packed))
        at = 0
        while clear_count <= most and at + bits <= len(rest):
            match = others[bits].match(rest, at, min(at + left * bits, len(rest)) if bits < _LZW_BITS else len(rest))
            count = (match.end() - at) // bits if match else 0
            at += count * bits
            left -= count
            if bits < _LZW_BITS and not left:
                left = 1 << bits
                bits += 1
            elif rest.startswith(texts[bits][0], at):
                at += bits
                bits = size + 1
                left = (1 << size) - 1
                clear_count += 1
            elif rest.startswith(texts[bits][1], at):
                return clear_count
            elif not count:
                break
        rest = rest[at:]
    return clear_count


def _lowest_first(number: int, bits: int) -> str:
    return f"{number:0{bits}b}"[::-1]


class _Page(NamedTuple):
    """A directory of a TIFF: numbers by tag, and of lists their offset, layout and count."""

    numbers: dict[int, int]
    lists: dict[int, tuple[int, str, int]]


def _tiff(data: bytes) -> str:
    order = "<" if data[:1] == b"I" else ">"
    for number, page in enumerate(_pages(data, order), 1):
        if number > MAX_PAGES:
            return f"more than {MAX_PAGES} pages"
        if fault := _page_fault(data, page):
            return fault
    return ""


def _pages(data: bytes, order: str) -> Iterator[_Page]:
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    while start:
        count = struct.unpack_from(f"{order}H", data, start)[0]
        page = _Page({}, {})
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(f"{order}HHI", data, entry)
            layout = _TIFF_SIZES.get(kind)
            if layout is None or tag in page.numbers:  # of a tag that comes twice, libtiff takes the first
                continue
            inline = length * struct.calcsize(layout) <= 4
            place = entry + 8 if inline else struct.unpack_from(f"{order}I", data, entry + 8)[0]
            page.numbers[tag] = struct.unpack_from(order + layout, data, entry + 8)[0]
            page.lists[tag] = place, order + layout, length
        yield page
        start = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)[0]


def _page_fault(data: bytes, page: _Page) -> str:
    numbers = page.numbers
    pixels = numbers.get(_WIDTH, 0) * numbers.get(_HEIGHT, 0)
    tile = numbers.get(_TILE_WIDTH, 0) * numbers.get(_TILE_HEIGHT, 0)
    if tile > max(MAX_TILE_PIXELS, 4 * pixels):
        return f"a tile of {numbers[_TILE_WIDTH]}x{numbers[_TILE_HEIGHT]} pixels"
    if numbers.get(_METHOD) not in _JPEG_IN_TIFF:
        return ""
    parts = page.lists.get(_TILE_BYTES) or page.lists.get(_STRIP_BYTES)
    if parts is None:
        return ""
    place, layout, count = parts
    count = min(count, (len(data) - place) // struct.calcsize(layout))
    sizes = struct.unpack_from(f"{layout[0]}{max(count, 0)}{layout[1]}", data, place)
    if sum(sizes) > 2 * len(data):
        return f"{count} strips or tiles that share their bytes"
    scans = data.count(b"\xff\xda")
    return f"{scans} scans in {count} strips or tiles" if scans > count + MAX_SCANS else ""


def _jpeg2000(data: bytes) -> str:
    """A decoder makes packets for each layer, resolution, channel and tile, and precincts of any size, of few bytes."""
    start = data.find(_CODESTREAM)
    if start < 0:
        return ""
    width, height, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, start + 8)
    channels = struct.unpack_from(">H", data, start + 40)[0]
    tiles = -(-max(width - left, 1) // max(tile_width, 1)) * -(-max(height - top, 1) // max(tile_height, 1))
    at = start + 4 + _number(data, start + 4)
    for _ in range(MAX_SEGMENTS):
        mark = data[at : at + 2]
        if mark == b"\xff\x52":
            own = data[at + 4]
            layers = _number(data, at + 6)
            levels = data[at + 9]
            packets = tiles * channels * layers * (levels + 1)
            if packets > MAX_PACKETS:
                return f"{packets} packets"
            sizes = data[at + 14 : at + 15 + levels] if own & 1 else b""
            # The lowest resolutions are small themselves.
            small = any(min(size & 15, size >> 4) < MIN_PRECINCT for size in sizes[-2:])
            return f"precincts below {2**MIN_PRECINCT} pixels" if small else ""
        if mark[:1] != b"\xff" or mark == b"\xff\x90":
            return ""
        at += 2 + _number(data, at + 2)
    return f"more than {MAX_SEGMENTS} segments"


_RULES: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], str]], ...] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG", _png),
    (b"GIF8", _gif),
    ((b"II*\0", b"MM\0*"), _tiff),
    ((_CODESTREAM, b"\0\0\0\x0cjP  "), _jpeg2000),
)

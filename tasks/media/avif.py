"""The cost of decoding an AVIF, from its boxes alone: how many frames of which size are coded in it.

Its header may claim less: the frame that is coded in an image is decoded whole, and a frame that is never shown takes
as long as any other, and a few bytes.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from mmap import mmap
from typing import NamedTuple

# An image, its alpha, its thumbnail and its gain map; or a blurred first layer of each.
MAX_TIMES = 4
SMALL = 1 << 20  # pixels that are always allowed
# Each coded image has a box, and takes a decoder of its own; cameras cut theirs into cells 512 pixels wide.
_MAX_BOXES = 1000
_MAX_PARTS = 10_000
_MAX_UNITS = 10_000
_MAX_TRACKS = 4
_MAX_HEADER = 256
# Types of open bitstream units.
_SEQUENCE = 1
_FRAME_HEADER = 3
_FRAME = 6
_IN_TRACK = (b"mdia", b"minf", b"stbl")

Data = bytes | mmap
Span = tuple[int, int]


class _BuildError(Exception):
    """A build that no encoder makes."""


def too_costly(data: Data, pixels: int) -> str:
    """Return why an AVIF that claims so many pixels is too costly to decode; an empty text if it is not."""
    coded = 0
    try:
        for picture in _pictures(data):
            side, frames = _frames(picture)
            if side.width * side.height > pixels:
                return f"frames of {side.width}x{side.height} pixels in a picture that claims {pixels}"
            coded += side.width * side.height * frames
            if coded > MAX_TIMES * pixels + SMALL:
                return f"frames of {coded} pixels in a picture of {pixels}"
    except _BuildError as error:
        return str(error)
    except (struct.error, IndexError):
        return "boxes that end too early"
    return ""


def _boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each box, and the start and end of its content, cut at the end of the file."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        stop = min(start + size, end) if size else end
        if stop < start + head:
            raise _BuildError("a box that ends before its name does")
        yield name, start + head, stop
        start = stop
    raise _BuildError(f"more than {_MAX_BOXES} boxes")


def _pictures(data: Data) -> Iterator[bytes]:
    """Yield the bytes that decoders get: each coded item, and of a sequence the first frame of each track."""
    for name, start, end in _boxes(data, 0, len(data)):
        if name == b"meta":
            yield from _items(data, dict(_places(data, start + 4, end)))
        elif name == b"moov":
            tracks = [place for kind, *place in _boxes(data, start, end) if kind == b"trak"]
            if len(tracks) > _MAX_TRACKS:
                raise _BuildError(f"more than {_MAX_TRACKS} tracks")
            for track in tracks:
                yield from _first_sample(data, (track[0], track[1]))


def _places(data: Data, start: int, end: int) -> Iterator[tuple[bytes, Span]]:
    seen = set[bytes]()
    for name, at, stop in _boxes(data, start, end):
        if name in seen and name in {b"iloc", b"iinf", b"idat"}:
            raise _BuildError(f"two boxes {name.decode()}")
        seen.add(name)
        yield name, (at, stop)


def _items(data: Data, places: Mapping[bytes, Span]) -> Iterator[bytes]:
    if b"iloc" not in places or b"iinf" not in places:
        return
    coded = _coded_items(data, *places[b"iinf"])
    inner = places.get(b"idat", (0, 0))
    size = 0
    for number, method, spans in _locations(data, places[b"iloc"][0]):
        if number not in coded:
            continue
        base, stop = (0, len(data)) if method == 0 else inner
        parts = [data[base + first : min(base + first + (length or stop), stop)] for first, length in spans]
        size += sum(map(len, parts))
        if method > 1 or size > 2 * len(data):
            raise _BuildError("pictures that share their bytes")
        yield b"".join(parts)


def _coded_items(data: Data, start: int, end: int) -> set[int]:
    """The numbers of the items that are coded pictures, not metadata and not grids of others."""
    numbers = set[int]()
    for name, at, _ in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if name == b"infe" and data[at] >= 2:
            layout = ">HH4s" if data[at] == 2 else ">IH4s"
            number, _, kind = struct.unpack_from(layout, data, at + 4)
            if kind == b"av01":
                numbers.add(number)
    return numbers


def _locations(data: Data, at: int) -> Iterator[tuple[int, int, Sequence[Span]]]:
    """Yield each item of `iloc`: its number, what its places count from, and (offset, length) of its parts."""
    version = data[at]
    sizes = struct.unpack_from(">H", data, at + 4)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    reader = _Fields(data, at + 6)
    parts = 0
    for _ in range(reader.take(4 if version == 2 else 2)):
        number = reader.take(4 if version == 2 else 2)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)
        base = reader.take(base_size)
        spans = []
        for _ in range(reader.take(2)):
            parts += 1
            if parts > _MAX_PARTS:
                raise _BuildError(f"more than {_MAX_PARTS} parts")
            reader.take(index_size if version else 0)
            spans.append((base + reader.take(offset_size), reader.take(length_size)))
        yield number, method, spans


class _Fields:
    """Numbers of any width, one behind the other."""

    def __init__(self, data: Data, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, size: int) -> int:
        if self._at + size > len(self._data):
            raise IndexError
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at])


def _first_sample(data: Data, place: Span) -> Iterator[bytes]:
    for name in _IN_TRACK:
        inner = [span for kind, *span in _boxes(data, *place) if kind == name]
        if not inner:
            return
        place = inner[0][0], inner[0][1]
    tables = {kind: at for kind, at, _ in _boxes(data, *place)}
    if b"stsz" not in tables or not tables.keys() & {b"stco", b"co64"}:
        return
    same, _, first = struct.unpack_from(">III", data, tables[b"stsz"] + 4)
    layout, offsets = (">I", b"stco") if b"stco" in tables else (">Q", b"co64")
    start = struct.unpack_from(layout, data, tables[offsets] + 8)[0]
    yield data[start : start + (same or first)]


class _Side(NamedTuple):
    width: int
    height: int


def _frames(coded: bytes) -> tuple[_Side, int]:
    """The largest size that a coded picture speaks of, and how many frames are in it."""
    side = _Side(0, 0)
    frames = 0
    for kind, body in _units(coded):
        frames += kind in {_FRAME_HEADER, _FRAME}
        if kind == _SEQUENCE:
            side = max(side, _sequence_side(body), key=lambda each: each.width * each.height)
    return side, frames


def _units(coded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the body of each open bitstream unit (AV1, 5.3)."""
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(coded):
            return
        head = coded[at]
        at += 2 if head & 4 else 1
        size = len(coded) - at
        if head & 2:
            size, at = _leb128(coded, at)
        yield head >> 3 & 15, coded[at : at + min(size, _MAX_HEADER)]
        at += size
    raise _BuildError(f"more than {_MAX_UNITS} units")


def _leb128(coded: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (coded[at + place] & 127) << 7 * place
        if coded[at + place] < 128:
            return value, at + place + 1
    raise _BuildError("a unit whose size has no end")


class _Bits:
    def __init__(self, body: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in body)
        self._at = 0

    def take(self, count: int) -> int:
        if self._at + count > len(self._bits):
            raise IndexError
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)


def _sequence_side(body: bytes) -> _Side:
    """The largest frame that a sequence header allows (AV1, 5.5.1)."""
    bits = _Bits(body)
    bits.take(4)
    if bits.take(1):
        bits.take(5)
    else:
        _pass_operating_points(bits)
    widths = bits.take(4) + 1
    heights = bits.take(4) + 1
    return _Side(bits.take(widths) + 1, bits.take(heights) + 1)


def _pass_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):
        bits.take(64)
        if bits.take(1):
            zeros = 0
            while not bits.take(1):
                zeros += 1
            bits.take(zeros)
        if bits.take(1):
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_delay and bits.take(1):
            bits.take(4)

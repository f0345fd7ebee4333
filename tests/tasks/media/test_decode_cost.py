"""What is too costly to decode is refused by all readers and decoded by none; what is taken costs what others cost."""

import functools
import io
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from model_repository.predict.errors import PredictError
from model_repository.predict.image_decoding import ImageDecoder
from tasks.dataset.image_stats import check_image
from tasks.media.decode_cost import MAX_BLOCKS, MAX_PAGES, MAX_SCANS, _clears, _sub_blocks, too_costly
from tasks.media.errors import MediaError
from tasks.media.file_type import image_size
from tasks.media.images import decode_image
from tasks.media.jpeg_segments import MAX_SEGMENTS
from tasks.validation.report.images import _shrunk

SIDE = 600
ORDINARY = Image.fromarray(
    np.asarray(cv2.resize(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8), (SIDE, SIDE)), np.uint8)
)


def encoded(kind: str, image: Image.Image = ORDINARY, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scans(count: int, image: Image.Image = ORDINARY) -> bytes:
    """A progressive JPEG of so many scans; its last one again and again."""
    data = encoded("JPEG", image, progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - data.count(b"\xff\xda")) + data[-2:]


def segments(count: int) -> bytes:
    data = encoded("JPEG")
    return data[:2] + b"\xff\xe5\0\2" * count + data[2:]


def chunks(kind: bytes, payload: bytes, count: int) -> bytes:
    data = encoded("PNG")
    chunk = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    return data[:33] + chunk * count + data[33:]


def pages(count: int) -> bytes:
    few = Image.new("L", (16, 16))
    return encoded("TIFF", few, save_all=True, append_images=[few.copy() for _ in range(count - 1)])


def tile(side: int) -> bytes:
    """A directory that promises a tile far larger than its picture."""
    entries = [(256, 16), (257, 16), (322, side), (323, side)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 4) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in entries)


def jpeg2000(layers: int, levels: int, side: int) -> bytes:
    size = struct.pack(">HHIIIIIIIIH", 47, 0, SIDE, SIDE, 0, 0, side, side, 0, 0, 3) + b"\7\1\1" * 3
    style = struct.pack(">HBBHBBBBBB", 12, 0, 0, layers, 0, levels, 4, 4, 0, 0)
    return b"\xff\x4f\xff\x51" + size + b"\xff\x52" + style + b"\xff\x90"


def gif(
    codes: Sequence[int], side: int = 100, before: bytes = b"", block: int = 255, bits: Sequence[int] | None = None
) -> bytes:
    """A GIF of 256 colours whose frame is these codes, of `bits` bits (9 each), cut into blocks."""
    bits = bits or [9] * len(codes)
    number = int("".join(f"{code:0{size}b}" for code, size in zip(reversed(codes), reversed(bits), strict=True)), 2)
    packed = number.to_bytes(sum(bits) // 8 + 1, "little")
    blocks = b"".join(bytes([len(part)]) + part for part in _cut(packed, block))
    size = struct.pack("<HH", side, side)
    head = b"GIF89a" + size + b"\xf7\0\0" + bytes(768)
    return head + before + b"," + bytes(4) + size + b"\0\x08" + blocks + b"\0;"


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


CLEAR = 256
INFLATING = b"k\0\0" + zlib.compress(bytes(7_000_000))
COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: scans(MAX_SCANS + 1), f"{MAX_SCANS + 1} scans"),
    "5010 scans": (lambda: scans(5010), "5010 scans"),
    "segments": (lambda: segments(MAX_SEGMENTS), "segments"),
    "fill": (lambda: b"\xff\xd8" + b"\xff" * 100_000 + encoded("JPEG")[2:], "bytes between its segments"),
    "zTXt": (lambda: chunks(b"zTXt", INFLATING, 3), "texts that unpack"),
    "iTXt": (lambda: chunks(b"iTXt", b"k\0\1\0\0\0" + INFLATING[3:], 3), "texts that unpack"),
    "chunks": (lambda: chunks(b"tEXt", b"k\0", 100_000), "chunks"),
    "pages": (lambda: pages(MAX_PAGES + 1), "pages"),
    "tile": (lambda: tile(30_000), "a tile of 30000x30000"),
    "clear codes": (lambda: gif([CLEAR] * 5000), "more than 1166 clear codes for 10000 pixels"),
    "clear codes and pixels": (lambda: gif([CLEAR, 7] * 2500), "clear codes"),
    "comments": (lambda: gif([CLEAR], before=b"\x21\xfe\1a\0" * 30_000), "blocks"),
    "blocks of a byte": (lambda: gif([CLEAR, *[7] * 40_000], 1000, block=1), "blocks"),
    "packets": (lambda: jpeg2000(65_535, 5, 64), "packets"),
}
TAKEN: dict[str, Callable[[], bytes]] = {
    "scans": lambda: scans(MAX_SCANS),
    "progressive": lambda: encoded("JPEG", progressive=True),
    "cmyk": lambda: encoded("JPEG", ORDINARY.convert("CMYK"), progressive=True),
    "segments": lambda: segments(1000),
    "text": lambda: chunks(b"zTXt", INFLATING, 1),
    "animation": lambda: encoded("PNG", save_all=True, append_images=[ORDINARY.rotate(at) for at in range(5)]),
    "gif": lambda: encoded("GIF", save_all=True, append_images=[ORDINARY.rotate(at) for at in range(5)]),
    "gif that compresses nothing": lambda: gif([CLEAR, *([7] * 62 + [CLEAR]) * 161, *[7] * 18, CLEAR + 1]),
    "webp": lambda: encoded("WEBP", save_all=True, append_images=[ORDINARY.rotate(at) for at in range(5)]),
    "lossless": lambda: encoded("WEBP", lossless=True),
    "avif": lambda: encoded("AVIF"),
    "jpeg in tiff": lambda: encoded("TIFF", compression="jpeg"),
    "lzw": lambda: encoded("TIFF", compression="tiff_lzw"),
    "bmp": lambda: encoded("BMP"),
    "ppm": lambda: encoded("PPM"),
    "jpeg 2000": lambda: encoded("JPEG2000", tile_size=(64, 64)),
}


@functools.cache
def taken(name: str) -> bytes:
    return TAKEN[name]()


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_too_costly_is_reported(name: str) -> None:
    make, found = COSTLY[name]
    assert found in too_costly(make())


@pytest.mark.parametrize("name", COSTLY)
def test_no_reader_decodes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the check nor its page, neither run-inference nor model `predict`."""
    make, found = COSTLY[name]
    data = make()
    for module, decoder in ((cv2, "imdecode"), (cv2, "imdecodemulti")):
        monkeypatch.setattr(module, decoder, lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr("tasks.validation.report.images.decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    _, findings = check_image(data, "x.jpg")
    assert [finding.code for finding in findings] == ["image-unreadable"]
    assert found in findings[0].message
    readers: tuple[Callable[[bytes], object], ...] = (_shrunk, decode_image, ImageDecoder(1 << 30, 1 << 30).decode)
    for read in readers:
        with pytest.raises((MediaError, PredictError)):
            read(data)


def seconds(data: bytes, times: int = 3) -> float:
    """The processor's time; the best of three, because others work on the same cores."""
    costs = []
    for _ in range(times):
        began = time.process_time()
        with suppress(MediaError):
            decode_image(data)
        costs.append(time.process_time() - began)
    return min(costs)


@functools.cache
def ordinary_seconds() -> float:
    """A photo of a megapixel, as the slower of the kinds that cameras and screens write."""
    million = ORDINARY.resize((1000, 1000))
    return max(seconds(encoded("PNG", million)), seconds(encoded("JPEG", million)))


def test_what_is_taken_decodes_in_the_time_of_a_few_ordinary_pictures() -> None:
    """Beside the slowest kind that is ordinary, a photo as PNG or JPEG of the same size in the same run."""
    ordinary = max(seconds(encoded("PNG")), seconds(encoded("JPEG")))
    for name in TAKEN:
        decode_image(taken(name))
    slow = {name: round(cost / ordinary, 1) for name in TAKEN if (cost := seconds(taken(name))) > 20 * ordinary}
    assert slow == {}
    assert {name for name in TAKEN if too_costly(taken(name))} == set()


def test_a_header_that_has_no_end_is_given_up_soon() -> None:
    """The size is read from it before any rule is asked."""
    endless = (b"\xff\xd8" + b"\xff" * 3_000_000, b"P6\n" + b"#\n" * 1_500_000 + b"9 9 255\n" + bytes(243))
    for data in endless:
        began = time.process_time()
        with pytest.raises(MediaError):
            decode_image(data)
        assert time.process_time() - began < 0.1


CODES = st.sampled_from([CLEAR, CLEAR, CLEAR, 1, 7, 255, 258, 300, CLEAR + 1])
RUNS = st.tuples(CODES, st.sampled_from([1, 1, 2, 252, 254, 255, 256, 513]))  # to where codes become longer, and beyond


@given(
    runs=st.lists(RUNS, max_size=12) | st.lists(st.tuples(CODES, st.just(1)), max_size=300),
    growing=st.booleans(),
    block=st.sampled_from([1, 100, 255]),
)
@settings(max_examples=50, deadline=None)
def test_clear_codes_are_counted_as_a_decoder_meets_them(
    runs: list[tuple[int, int]], growing: bool, block: int
) -> None:
    """In order, whatever lies between them; beside a decoder written out in full."""
    codes = [CLEAR, *(code for code, count in runs for _ in range(count))]
    data = gif(codes, block=block, bits=bits_of(codes) if growing else None)
    at = 13 + 768 + 10
    assert _clears(_sub_blocks(data, at + 1, 0, MAX_BLOCKS)[1], data[at], 10_000) == clears_by_a_decoder(data, at)


def bits_of(codes: Sequence[int]) -> list[int]:
    """How many bits each code has if an encoder writes them: more as its table fills up, until the next clear code."""
    lengths, entries = [], 257
    for code in codes:
        lengths.append(min(entries.bit_length(), 12))
        entries = 257 if code == CLEAR else entries + 1
    return lengths


def clears_by_a_decoder(data: bytes, at: int) -> int:
    """Code after code, with the table's length that decides how many bits the next one has."""
    packed = b"".join(_sub_blocks(data, at + 1, 0, MAX_BLOCKS)[1])
    number, left, size = int.from_bytes(packed, "little"), 8 * len(packed), data[at]
    clear, bits, entries, first, found = 1 << size, size + 1, (1 << size) + 2, True, 0
    while left >= bits:
        code, number, left = number & ((1 << bits) - 1), number >> bits, left - bits
        if code == clear:
            bits, entries, first, found = size + 1, clear + 2, True, found + 1
        elif code == clear + 1:
            break
        else:
            entries += not first and entries < 4096
            first = False
            bits += entries == 1 << bits and bits < 12
    return found


MOST_TIMES = 20  # what an ordinary picture of a megapixel takes, for each megapixel and for the first one


@given(st.sampled_from(sorted(TAKEN)), st.randoms(use_true_random=True))
@settings(max_examples=80, deadline=None)
def test_what_a_mutant_costs_is_bounded_too(name: str, rng: random.Random) -> None:
    """Bytes flipped in the header and anywhere, runs of it taken out, doubled or repeated a thousand times."""
    data = mutated(taken(name), rng)
    size = image_size(data)
    assume(size is not None and size[0] * size[1] < 4e6 and not too_costly(data))
    megapixels = max(size[0] * size[1] / 1e6, 1) if size else 1
    most = MOST_TIMES * megapixels * ordinary_seconds()
    assert any(seconds(data, 1) < most for _ in range(3))


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(min(len(changed), rng.choice((40, 1000, len(changed)))))
        run = changed[start : start + rng.choice((1, 2, 4, 12, 200, 4000))]
        what = rng.randrange(5)
        if what == 0:
            changed[start] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif what == 1:
            changed[start : start + len(run)] = rng.randbytes(len(run))
        elif what == 2:
            del changed[start : start + len(run)]
        else:
            changed[start:start] = run * (1 if what == 3 else min(1000, 1_000_000 // max(len(run), 1)))
        if not changed:
            return b"x"
    return bytes(changed)

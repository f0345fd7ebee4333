"""What is too costly to decode is refused by all readers and decoded by none; what is taken costs what others cost."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from model_repository.predict.picture import Limits
from model_repository.predict.refusal import RefusalError
from tasks.core.decode_cost import MAX_PAGES, MAX_SCANS, MAX_SEGMENTS, too_costly
from tasks.core.images import inspect_image
from tasks.core.media import MediaError
from tasks.core.media.images import decode_image
from tasks.core.validation.report_pictures import _shrunk

SIDE = 600
ORDINARY = Image.fromarray(
    np.asarray(cv2.resize(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8), (SIDE, SIDE)), np.uint8)
)


def encoded(kind: str, image: Image.Image = ORDINARY, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scans(count: int) -> bytes:
    """A progressive JPEG of so many scans; its last one again and again."""
    data = encoded("JPEG", progressive=True)
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


INFLATING = b"k\0\0" + zlib.compress(bytes(7_000_000))
COSTLY = {
    "scans": (scans(MAX_SCANS + 1), f"{MAX_SCANS + 1} scans"),
    "5010 scans": (scans(5010), "5010 scans"),
    "segments": (segments(MAX_SEGMENTS), "segments"),
    "fill": (b"\xff\xd8" + b"\xff" * 100_000 + encoded("JPEG")[2:], "bytes between its segments"),
    "zTXt": (chunks(b"zTXt", INFLATING, 3), "texts that unpack"),
    "iTXt": (chunks(b"iTXt", b"k\0\1\0\0\0" + INFLATING[3:], 3), "texts that unpack"),
    "chunks": (chunks(b"tEXt", b"k\0", 100_000), "chunks"),
    "pages": (pages(MAX_PAGES + 1), "pages"),
    "tile": (tile(30_000), "a tile of 30000x30000"),
    "packets": (jpeg2000(65_535, 5, 64), "packets"),
}
TAKEN = {
    "scans": scans(MAX_SCANS),
    "progressive": encoded("JPEG", progressive=True),
    "cmyk": encoded("JPEG", ORDINARY.convert("CMYK"), progressive=True),
    "segments": segments(1000),
    "text": chunks(b"zTXt", INFLATING, 1),
    "animation": encoded("PNG", save_all=True, append_images=[ORDINARY.rotate(at) for at in range(5)]),
    "gif": encoded("GIF", save_all=True, append_images=[ORDINARY.rotate(at) for at in range(5)]),
    "webp": encoded("WEBP", save_all=True, append_images=[ORDINARY.rotate(at) for at in range(5)]),
    "lossless": encoded("WEBP", lossless=True),
    "avif": encoded("AVIF"),
    "jpeg in tiff": encoded("TIFF", compression="jpeg"),
    "lzw": encoded("TIFF", compression="tiff_lzw"),
    "bmp": encoded("BMP"),
    "ppm": encoded("PPM"),
    "jpeg 2000": encoded("JPEG2000", tile_size=(64, 64)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_too_costly_is_told(name: str) -> None:
    data, found = COSTLY[name]
    assert found in too_costly(data)


@pytest.mark.parametrize("name", COSTLY)
def test_no_reader_decodes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the check nor its page, neither run-inference nor model `predict`."""
    data, found = COSTLY[name]
    for module, decoder in ((cv2, "imdecode"), (cv2, "imdecodemulti")):
        monkeypatch.setattr(module, decoder, lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr("tasks.core.validation.report_pictures.decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    _, findings = inspect_image(data, "x.jpg")
    assert [finding.code for finding in findings] == ["image-unreadable"]
    assert found in findings[0].message
    readers: tuple[Callable[[bytes], object], ...] = (_shrunk, decode_image, Limits(1 << 30, 1 << 30).decode)
    for read in readers:
        with pytest.raises((MediaError, RefusalError)):
            read(data)


def seconds(data: bytes) -> float:
    """The processor's time; the best of three, because others work on the same cores."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        decode_image(data)
        taken.append(time.process_time() - began)
    return min(taken)


def test_what_is_taken_decodes_in_the_time_of_a_few_ordinary_pictures() -> None:
    """Beside the slowest kind that is ordinary, a photo as PNG or JPEG of the same size in the same run."""
    ordinary = max(seconds(encoded("PNG")), seconds(encoded("JPEG")))
    slow = {
        name: round(taken / ordinary, 1) for name, data in TAKEN.items() if (taken := seconds(data)) > 20 * ordinary
    }
    assert slow == {}
    assert {name for name, data in TAKEN.items() if too_costly(data)} == set()


def test_one_file_holds_the_rule() -> None:
    root = Path(__file__).resolve().parents[2]
    served = root / "model_repository" / "predict" / "decode_cost.py"
    assert served.read_bytes() == (root / "tasks" / "core" / "decode_cost.py").read_bytes()
    assert served.is_symlink()

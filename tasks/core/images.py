"""Is an image whole? The header is read first, so that an image that would fill the memory is never decoded."""

import io
import struct
import threading
import warnings
from contextlib import nullcontext
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from tasks.core.codes import Code
from tasks.core.findings import Finding, error, explain

MAX_IMAGE_BYTES = 256 * 2**20
# Pillow itself refuses a header that claims more than this.
MAX_PIXELS = 178_000_000
MIN_SIDE = 10

# What each file ending may hold; phones write several pictures (MPO) under .jpg.
_FORMATS = {
    ".bmp": ("BMP", "DIB"),
    ".jpeg": ("JPEG", "MPO"),
    ".jpg": ("JPEG", "MPO"),
    ".mpo": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
}
IMAGE_ENDINGS = tuple(_FORMATS)
# Pillow opens MPO under the name JPEG and knows no reader called MPO.
_PILLOW_FORMATS = sorted({name for names in _FORMATS.values() for name in names} - {"MPO"})
_PNG_END = b"IEND\xaeB\x60\x82"
_LARGE_PIXELS = 50_000_000
# Only one large image is decoded at a time, whatever the number of threads: it takes up to 600 MB.
_large_lock = threading.Lock()
# Warning filters belong to the whole process, so two threads must not swap them at the same time.
_warnings_lock = threading.Lock()
_PILLOW_ERRORS = (
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    ImportError,  # ultralytics, once imported, replaces Image.open by one that asks for pi-heif on unknown bytes
)


class ImageTraits(NamedTuple):
    """What the check keeps of an image that was decoded in full; sides are in pixels as stored."""

    width: int
    height: int


class _Header(NamedTuple):
    kind: str
    width: int
    height: int


def is_image(name: str) -> bool:
    """Tell by its ending whether an entry is an image that training can use."""
    return name.lower().endswith(IMAGE_ENDINGS)


def check_image(data: bytes, path: str) -> list[Finding]:
    """Decode an image in full and say what is wrong with it; an empty list means that it is whole.

    `data` is the file, `path` its name in the archive. Never raises for what the file holds; safe in many threads.
    """
    try:
        header = _read_header(data)
    except Image.DecompressionBombError as exc:
        return [_unreadable(path, f"at most {MAX_PIXELS} pixels", str(exc))]
    except _PILLOW_ERRORS as exc:
        return [_unreadable(path, "the header of an image", f"none ({type(exc).__name__})")]
    return _header_findings(header, path) or _pixel_findings(data, header, path)


def _read_header(data: bytes) -> _Header:
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
            return _Header(str(image.format), *image.size)


def _header_findings(header: _Header, path: str) -> list[Finding]:
    """Return what the header alone shows to be wrong."""
    ending = path[path.rfind(".") :].lower()
    if header.kind not in _FORMATS.get(ending, ()):
        fix = "Give the file the ending of its format, or convert it."
        message = explain(f"the format that the ending {ending} promises", header.kind, fix)
        return [error(Code.IMAGE_UNREADABLE, message, path=path)]
    size = f"{header.width}x{header.height}"
    if header.width * header.height > MAX_PIXELS:
        return [_unreadable(path, f"at most {MAX_PIXELS} pixels", size)]
    if min(header.width, header.height) < MIN_SIDE:
        fix = "Use the image at its original size, or take it out together with its labels."
        return [error(Code.IMAGE_TOO_SMALL, explain(f"sides of at least {MIN_SIDE} pixels", size, fix), path=path)]
    return []


def _pixel_findings(data: bytes, header: _Header, path: str) -> list[Finding]:
    if not _has_end(data, header.kind):
        return [_unreadable(path, f"the end mark of a {header.kind} file", f"{len(data)} bytes without it")]
    if not _decodes(data, large=header.width * header.height > _LARGE_PIXELS):
        return [_unreadable(path, f"{header.width}x{header.height} pixels", "data that OpenCV cannot decode")]
    return []


def _decodes(data: bytes, *, large: bool) -> bool:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _large_lock if large else nullcontext():
            # OpenCV answers None where its type says that there is always an image.
            pixels: object = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError):
        return False
    return pixels is not None


def _has_end(data: bytes, kind: str) -> bool:
    """Tell whether the file goes on to its end; some OpenCV versions fill the rest of a cut image with grey."""
    if kind in {"JPEG", "MPO"}:
        return _jpeg_has_end(data)
    return _PNG_END in data if kind == "PNG" else True


def _jpeg_has_end(data: bytes) -> bool:
    """Look for the end mark after the start of the pixels: the thumbnail in the header has one of its own."""
    at = 2
    while at + 4 <= len(data):
        mark = data[at + 1]
        if mark == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        if data[at] != 0xFF or mark == 0xFF:
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _unreadable(path: str, expected: str, found: str) -> Finding:
    fix = "Export or copy the image again, or take it out together with its labels."
    return error(Code.IMAGE_UNREADABLE, explain(expected, found, fix), path=path)

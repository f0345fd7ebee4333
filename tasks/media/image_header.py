"""The header of an image file, read before anything is decoded, and faults in the file's structure.

A decoder believes the header: a few kilobytes may unpack to many gigabytes, or claim memory that the machine lacks.
"""

import io
import struct
import threading
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Literal, NamedTuple

import simplejpeg
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tasks.media.decode_cost import MAX_CHUNKS, too_costly
from tasks.media.file_type import BIG_TIFF
from tasks.media.jpeg_segments import APP1, MAX_SEGMENTS, START_OF_SCAN, jpeg_segments

# Pillow itself refuses a header that claims more than this.
MAX_PIXELS = 178_000_000
# The formats by file ending; phones write several images (MPO) under .jpg.
FORMATS = {
    ".bmp": ("BMP",),
    ".jpeg": ("JPEG", "MPO"),
    ".jpg": ("JPEG", "MPO"),
    ".mpo": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
}
# Pillow opens MPO under the name JPEG and knows no reader called MPO.
_PILLOW_FORMATS = sorted({name for names in FORMATS.values() for name in names} - {"MPO"})
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
_TURNED_BY_ONE = "EXIF or XMP that turns the image for OpenCV or for Pillow, and not for both"
# The sources of an orientation in Pillow.
_TURNING = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}


class HeaderError(Exception):
    """No header that can be read; the text says what was expected and found."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class Header(NamedTuple):
    """`kind` is Pillow's name of the format; sides are in pixels as stored; `orientation` is EXIF's, 1 to 8.

    `pixels_at` is the offset of the pixels of a JPEG. `fault` is a fault in the structure of the file, if any.
    """

    kind: str
    width: int
    height: int
    orientation: int
    pixels_at: int
    fault: str


def read_header(data: bytes) -> Header:
    """Return the header of an image file; safe in many threads.

    Raises:
        HeaderError: There is none, or the image is too costly to decode.
    """
    if data[:4] in BIG_TIFF:
        raise HeaderError("an ordinary TIFF, which any file of less than 4 GiB can be", "a BigTIFF")
    if costly := too_costly(data):
        raise HeaderError("an image that decodes in the time of an ordinary one", costly)
    try:
        return _read(data)
    except Image.DecompressionBombError as exc:
        raise HeaderError(f"at most {MAX_PIXELS} pixels", str(exc)) from exc
    except _PILLOW_ERRORS as exc:
        if kind := _kind(data):
            raise HeaderError(
                f"a {kind} file that Pillow reads, as Ultralytics does first", _complaint(data, kind)
            ) from exc
        raise HeaderError("an image", _guess(data)) from exc


def _kind(data: bytes) -> str:
    """Return the name of the format by the first bytes; an empty text for other formats."""
    accepts = {name: Image.OPEN[name][1] for name in _PILLOW_FORMATS if name in Image.OPEN}
    return next((name for name, accept in accepts.items() if accept and accept(data[:16]) is True), "")


def _complaint(data: bytes, kind: str) -> str:
    """Return Pillow's own error for a file, which names the chunk; `Image.open` does not show it."""
    try:
        with _opened(lambda: Image.OPEN[kind][0](io.BytesIO(data), "")) as image:
            image.verify()
    except _PILLOW_ERRORS as exc:
        return str(exc) or type(exc).__name__
    return "data that it does not take"


def _opened(read: Callable[[], Image.Image]) -> Image.Image:
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()


def _verified(data: bytes) -> tuple[str, tuple[int, int], bytes, bool]:
    """Return format, sides, EXIF and whether that swaps the sides, of an image that Ultralytics' label scan accepts.

    The scan uses Pillow's `verify`, which compares the checksums of all chunks of a PNG, and decodes nothing.
    """
    with _opened(lambda: Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)) as image:
        kind = str(image.format)
        size = image.size
        exif = image.info.get("exif", b"")
        image.verify()
        swaps = bool(_TURNING & image.info.keys() or kind == "TIFF") and _swaps(image)
        # Of a TIFF Pillow gives the sides as shown.
        return kind, size[::-1] if kind == "TIFF" and swaps else size, exif, swaps


def _swaps(image: Image.Image) -> bool:
    """As Ultralytics decides it; an orientation that it cannot read turns nothing."""
    try:
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else image.getexif()
        return tags.get(274) in {5, 6, 7, 8}
    except _PILLOW_ERRORS:
        return False


def _turned_by_one(kind: str, orientation: int, *, swaps: bool) -> str:
    """OpenCV takes an orientation of any type of number, and none from XMP; Pillow the other way round.

    Of a WebP or a TIFF that is turned for Pillow, Ultralytics asks OpenCV, too.
    """
    turned = orientation > 4
    differ = turned and not swaps if kind in {"WEBP", "TIFF"} else turned != swaps
    return _TURNED_BY_ONE if differ else ""


def decodes_with_pillow(data: bytes) -> bool:
    """Return whether Pillow decodes all of an image; OpenCV accepts damaged rows of a TIFF."""
    try:
        with _opened(lambda: Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)) as image:
            image.load()
    except _PILLOW_ERRORS:
        return False
    return True


def _guess(data: bytes) -> str:
    """Return the kind of a file that is no image, or one of another format."""
    if not data.strip(b"\0"):
        return "nothing but zero bytes" if data else "an empty file"
    head = data[:200].lstrip()
    known = {
        b"version https://git-lfs": "a Git LFS pointer: fetch the file itself",
        b"GIF8": "a GIF",
        b"%PDF": "a PDF",
        b"<": "a web page or other markup",
    }
    if data[4:8] == b"ftyp":
        return "a HEIC or AVIF photo, or a video"
    return next((kind for mark, kind in known.items() if head.startswith(mark)), "bytes of no known image format")


def _read(data: bytes) -> Header:
    if data.startswith(b"\xff\xd8\xff"):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        except ValueError:
            pass  # a kind of JPEG that it does not know, and OpenCV may
        else:
            kind = "JPEG"
            orientation, start, fault = _walk_jpeg(data)
            if not fault:
                kind, _, _, swaps = _verified(data)
                fault = _turned_by_one(kind, orientation, swaps=swaps)
            return Header(kind=kind, width=width, height=height, orientation=orientation, pixels_at=start, fault=fault)
    kind, (width, height), exif, swaps = _verified(data)
    if kind in {"JPEG", "MPO"}:
        orientation, start, fault = _walk_jpeg(data)
    elif kind == "PNG":
        orientation, fault = _walk_png(data)
        start = 0
    else:
        # EXIF itself is a TIFF.
        orientation = _orientation(data if kind == "TIFF" else exif.removeprefix(b"Exif\0\0"))
        start = 0
        fault = ""
    fault = fault or _turned_by_one(kind, orientation, swaps=swaps)
    return Header(kind=kind, width=width, height=height, orientation=orientation, pixels_at=start, fault=fault)


def _walk_jpeg(data: bytes) -> tuple[int, int, str]:
    """Return the EXIF orientation, the offset of the pixels, and a fault in the structure, if any.

    An end mark has to follow the start of the pixels: the thumbnail in the header has one of its own, and some decoders
    fill the rest of a cut image with grey.
    """
    orientation = 1
    end = 2
    for marker, at, end in islice(jpeg_segments(data), MAX_SEGMENTS):
        if marker == START_OF_SCAN:
            return orientation, at, "" if data.rfind(b"\xff\xd9", at) >= 0 else "no end mark"
        if marker == APP1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = _orientation(data[at + 8 : end])
    return orientation, end, "no pixels"


def _walk_png(data: bytes) -> tuple[int, str]:
    """Return the EXIF orientation that OpenCV sees, and a fault in the structure, if any.

    OpenCV takes as much memory as a chunk says that it needs, so none may claim more than there is. Of several chunks
    with EXIF it uses the first, also behind the pixels.
    """
    at = 8
    exif = b""
    for _ in range(MAX_CHUNKS):
        size = int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if at + 12 + size > len(data):
            return 1, "no end mark"
        if kind == b"IEND":
            return _orientation(exif), ""
        if kind == b"eXIf" and not exif and data[at + 8 : at + 10] in {b"II", b"MM"}:
            exif = data[at + 8 : at + 8 + size]
        at += 12 + size
    return 1, f"more than {MAX_CHUNKS} chunks"


def _orientation(tiff: bytes) -> int:
    """Return tag 274 of the first directory; 1 if there is none or its value is not allowed."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int = 2) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    if number(2) != 42:
        return 1
    start = number(4, 4)
    tags = range(start + 2, min(start + 2 + 12 * number(start), len(tiff)), 12)
    value = next((number(at + 8) for at in tags if number(at) == 274), 1)
    return value if 1 <= value <= 8 else 1

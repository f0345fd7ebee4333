"""Is an image whole, and what does it look like? Each is decoded once, in grey.

That reads every byte of a JPEG and skips only the arithmetic of its colours, a third of the whole.
"""

import re
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from tasks.dataset.findings import Finding, FindingBatch, Severity, batch_findings, error, warning
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.media.image_header import FORMATS, MAX_PIXELS, Header, HeaderError, decodes_with_pillow, read_header
from tasks.vision.grey_stats import THUMBNAIL_SIDE, GreyStats, measure_grey

MAX_IMAGE_BYTES = 256 * 2**20
MIN_SIDE = 10

IMAGE_ENDINGS = tuple(FORMATS)
# Ultralytics lists .avif, .dng, .heic, .heif and .jp2 too, but reads them only with packages that few have.
_FOREIGN_ENDINGS = (
    *(".gif", ".svg", ".ico", ".psd", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".jfif", ".jpe", ".dib"),
    *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
)
_TURNS = {
    2: "which mirrors it",
    3: "which turns it by 180 degrees",
    4: "which turns it upside down and mirrors it",
    5: "which swaps the sides and mirrors it",
    6: "which swaps the sides",
    7: "which swaps the sides and mirrors it",
    8: "which swaps the sides",
}
_SWAPS_FROM = 5
_TIFF = {b"II*\0", b"MM\0*"}
_LARGE_PIXELS = 50_000_000
# Only one large image is decoded at a time, whatever the number of threads: it takes up to 600 MB.
_large_lock = threading.Lock()
# What libjpeg says if pixels are lost. Its other complaints, such as an unknown JFIF revision, condemn nothing.
_JPEG_DAMAGE = re.compile("premature end|bad Huffman|bad arithmetic|marker|structure|more than one scan", re.IGNORECASE)
_JPEG_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x(..)")
# Cameras put fewer bytes, or bytes that are much alike, before the end mark; more are pixels that damage pushed there.
_MIN_LEFT_OVER = 64
# Damage is a finding; OpenCV would write it to the terminal as well.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
_Grey = npt.NDArray[np.uint8]


class ImageStats(NamedTuple):
    """What the check keeps of an image that was decoded in full: about 600 bytes.

    `width` and `height` are in pixels as stored; `orientation` (EXIF, 1 to 8) is not applied. The rest is that of
    `GreyStats`.
    """

    width: int
    height: int
    orientation: int = 1
    dark: int = 255
    bright: int = 0
    entropy: float = 8.0
    sharpness: float = 1.0
    thumbnail: bytes = bytes(THUMBNAIL_SIDE**2)

    @property
    def grey(self) -> GreyStats:
        """What it looks like in grey."""
        return GreyStats(*self[3:])


def is_image(name: str) -> bool:
    """Return whether an entry is an image that training can use, by its ending."""
    return name.lower().endswith(IMAGE_ENDINGS)


def is_unsupported_image(name: str) -> bool:
    """Return whether an entry is an image of a format that training does not read, by its ending."""
    return name.lower().endswith(_FOREIGN_ENDINGS)


def format_findings(names: Iterable[str]) -> list[FindingBatch]:
    """Return a warning for each entry that is an image of a format that training does not read."""

    def write(name: str) -> Finding:
        expected = f"an image that training reads ({', '.join(IMAGE_ENDINGS)})"
        fix = "Training leaves it out: convert it to JPEG or PNG under the same name, or remove it."
        return warning(Code.IMAGE_FORMAT, expected, safe_repr(name[name.rfind(".") :].lower()), fix, path=name)

    return batch_findings(Code.IMAGE_FORMAT, Severity.WARNING, sorted(filter(is_unsupported_image, names)), write)


def check_image(data: bytes, path: str) -> tuple[ImageStats | None, list[Finding]]:
    """Decode an image in full; return its statistics (None if it cannot be used) and what is wrong with it.

    `data` is the file, `path` its name in the archive. Never raises for what the file holds; safe in many threads.
    """
    try:
        header = read_header(data)
    except HeaderError as exc:
        return None, [_unreadable(path, exc.expected, exc.found)]
    faults = _header_findings(header, path)
    if faults:
        return None, faults
    grey = _decode(data, header)
    if grey is None:
        found = "data that ends or breaks, or that OpenCV does not read"
        return None, [_unreadable(path, f"{header.width}x{header.height} pixels", found)]
    height, width = grey.shape
    return ImageStats(width, height, header.orientation, *measure_grey(grey)), _rotation_findings(header, path)


def _header_findings(header: Header, path: str) -> list[Finding]:
    """Return what the header alone shows to be wrong."""
    ending = path[path.rfind(".") :].lower()
    if header.kind not in FORMATS.get(ending, ()):
        fix = "Give the file the ending of its format, or convert it."
        return [
            error(Code.IMAGE_UNREADABLE, f"the format that the ending {ending} promises", header.kind, fix, path=path)
        ]
    size = f"{header.width}x{header.height}"
    if header.width * header.height > MAX_PIXELS:
        return [_unreadable(path, f"at most {MAX_PIXELS} pixels", size)]
    if min(header.width, header.height) < MIN_SIDE:
        fix = "Use the image at its original size, or take it out together with its labels."
        return [error(Code.IMAGE_TOO_SMALL, f"sides of at least {MIN_SIDE} pixels", size, fix, path=path)]
    if header.fault:
        return [_unreadable(path, f"a whole {header.kind} file", header.fault)]
    return []


def _rotation_findings(header: Header, path: str) -> list[Finding]:
    """Training and inference turn every image as its tag says; tools that draw boxes do not all."""
    if header.orientation == 1:
        return []
    width, height = header.width, header.height
    found = f"{width}x{height} with EXIF orientation {header.orientation}, {_TURNS[header.orientation]}"
    fix = "Check that its labels fit the image as shown, or turn the pixels and drop the tag."
    shown = f"{height}x{width}" if header.orientation >= _SWAPS_FROM else f"{width}x{height}"
    expected = f"pixels stored the way the image is shown, {shown}"
    return [warning(Code.IMAGE_EXIF_ROTATED, expected, found, fix, path=path)]


def _decode(data: bytes, header: Header) -> _Grey | None:
    """Return the whole picture in grey, [height, width]; None if any of it cannot be decoded."""
    with _large_lock if header.width * header.height > _LARGE_PIXELS else nullcontext():
        try:
            if header.kind in {"JPEG", "MPO"}:
                grey: _Grey = simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, strict=True)[..., 0]
                return grey
        except (ValueError, MemoryError) as exc:
            if _loses_pixels(str(exc), data, header.pixels_at):
                return None
        return _decode_leniently(data) if header.kind != "TIFF" or decodes_with_pillow(data) else None


def _loses_pixels(complaint: str, data: bytes, start: int) -> bool:
    left = _JPEG_LEFT_OVER.search(complaint)
    if left is None:
        return _JPEG_DAMAGE.search(complaint) is not None
    if left[2] != "d9":
        # Nobody pads before a restart mark.
        return "d0" <= left[2] <= "d7"
    end = data.find(b"\xff\xd9", start)
    left_over = data[max(start, end - int(left[1])) : end]
    return len(left_over) >= _MIN_LEFT_OVER and len(set(left_over)) > 0.4 * min(len(left_over), 256)


def _decode_leniently(data: bytes) -> _Grey | None:
    """Formats other than JPEG, JPEGs of rare kinds, and those with something odd in them that loses no pixel."""
    picture = decode_colour(data)
    if picture is None:
        return None
    try:
        # Read as grey, PNG and BMP come out one level apart.
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    except (cv2.error, MemoryError):
        return None


def decode_colour(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Return the picture as stored, [height, width, blue-green-red]; None if OpenCV cannot decode it."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        # OpenCV returns None, although its type says that there is always an image.
        picture: object = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if not isinstance(picture, np.ndarray):
            return None
        # OpenCV turns a TIFF as its tag says, whatever the flags.
        orientation = read_header(data).orientation if data[:4] in _TIFF else 1
        return _turn_back(np.asarray(picture, np.uint8), orientation)
    except (cv2.error, MemoryError, HeaderError):
        return None


def _turn_back(shown: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return a picture [height, width, 3] as it is stored, of one that is turned as its orientation says."""
    stored = shown.swapaxes(0, 1) if orientation >= _SWAPS_FROM else shown
    down, across = (-1 if orientation in mirrored else 1 for mirrored in ((3, 4, 6, 7), (2, 3, 7, 8)))
    return np.ascontiguousarray(stored[::down, ::across])


def _unreadable(path: str, expected: str, found: str) -> Finding:
    fix = "Export or copy the image again, or take it out together with its labels."
    return error(Code.IMAGE_UNREADABLE, expected, found, fix, path=path)

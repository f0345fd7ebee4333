"""Image files as RGB arrays, and back."""

import io
from mmap import ACCESS_READ, mmap
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageOps
from PIL.AvifImagePlugin import AvifImageFile

from tasks.files import write_atomically
from tasks.media import avif
from tasks.media.decode_cost import too_costly
from tasks.media.errors import MediaError
from tasks.media.file_type import BIG_TIFF, image_size
from tasks.vision.geometry import Rgb

MAX_PIXELS = 150_000_000
MAX_FILE_BYTES = 1 << 30
JPEG_LARGEST_SIDE = 65_500

# Bytes a pixel at the peak of decoding, as measured with 24 million of them: the image, its copy if EXIF turns it, and
# the decoder's own (coefficients of a progressive JPEG, a canvas for animations, 16 or 32 bits).
_PEAK_BYTES = 9
_PEAK_BYTES_ANIMATED = 11
_PEAK_BYTES_DEEP = 20
_TIFF = {b"II*\0", b"MM\0*"}
_BROKEN_PILLOW = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError)


def read_image(path: Path) -> Rgb:
    """Return an image file as an upright uint8 [H, W, 3] RGB array, as `decode_image` does.

    Raises:
        MediaError: It cannot be read, is too large, or cannot be decoded.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MediaError(f"expected a picture of at most {MAX_FILE_BYTES:,} bytes, found {size:,}; shrink it")
        return decode_image(path.read_bytes())
    except OSError as error:
        raise MediaError(f"expected a readable picture, found {error.strerror or error}; upload it again") from error


def decode_image(data: bytes) -> Rgb:
    """Return the bytes of an image file as an uint8 [H, W, 3] RGB array: the pixels that Ultralytics' predict sees.

    The EXIF orientation is applied, grey becomes three equal channels, alpha is dropped, 16 bits become 8, and of
    several images in one file the first counts.

    Raises:
        MediaError: It is no image, damaged, cut off, too costly to decode, or has more than `MAX_PIXELS`.
    """
    width, height = check_pixels(data)
    is_avif = data[4:8] == b"ftyp"
    if costly := avif.too_costly(data, width * height) if is_avif else too_costly(data):
        raise MediaError(
            f"expected a picture that decodes in the time of an ordinary one, found {costly}; save it again"
        )
    if is_avif:
        return _decode_avif(data, width * height)
    try:
        image: object = _decode_colour_tiff(data) if data[:4] in _TIFF else None
        if image is None:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise MediaError(_unreadable(f"OpenCV says: {error.err or error.msg}")) from error
    except MemoryError as error:
        raise MediaError(_unreadable("more pixels than there is memory for")) from error
    # The stubs promise an array; OpenCV returns None for an image that it cannot decode to its end.
    if not isinstance(image, np.ndarray) or image.size == 0:
        raise MediaError(_unreadable("pixels that are cut off, damaged or coded in a way that OpenCV does not know"))
    return np.asarray(image, np.uint8)


def peak_decode_bytes_of(data: bytes | mmap) -> int:
    """Return how many bytes `decode_image` takes at its peak, by the header alone; raise as `check_pixels` does."""
    width, height = check_pixels(data)
    return width * height * _peak_bytes(data[:12])


def peak_decode_bytes(path: Path) -> int:
    """Return how many bytes `read_image` takes at its peak, by the header alone.

    Raises:
        MediaError: The file or its header cannot be read, or the header claims too much.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                check_pixels(b"")
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                return size + peak_decode_bytes_of(data)
    except OSError as error:
        raise MediaError(f"expected a readable picture, found {error.strerror or error}; upload it again") from error


def check_pixels(data: bytes | mmap) -> tuple[int, int]:
    """Return the sides that the header claims, in pixels as stored.

    Raises:
        MediaError: The header is missing or claims more than `MAX_PIXELS`.
    """
    size = image_size(data)
    if size is None:
        found = (
            "a BigTIFF, where an ordinary TIFF would do"
            if data[:4] in BIG_TIFF
            else "no header of a known picture format"
        )
        raise MediaError(_unreadable(found if len(data) else "an empty file"))
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise MediaError(
            f"expected 1 to {MAX_PIXELS:,} pixels, found {size[0]}x{size[1]} in the header; "
            "shrink the picture or cut it into tiles"
        )
    return size


def shrink_to_fit(image: Rgb, largest_side: int) -> Rgb:
    """Return the image, shrunk if its longer side has more than `largest_side` pixels."""
    return image if max(image.shape[:2]) <= largest_side else resize_to_fit(image, largest_side)


def resize_to_fit(image: Rgb, longer_side: int) -> Rgb:
    """Return the image, shrunk or enlarged, with `longer_side` pixels on its longer side."""
    height, width = image.shape[:2]
    gain = longer_side / max(height, width)
    sides = max(round(width * gain), 1), max(round(height * gain), 1)
    way = cv2.INTER_AREA if gain < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, sides, interpolation=way), np.uint8)


def write_jpeg(path: Path, image: Rgb, quality: int = 88) -> None:
    """Write an RGB array as JPEG: complete under its name or not at all; sides beyond the format's limit shrink."""
    with write_atomically(path) as unfinished:
        unfinished.write_bytes(encode_jpeg(shrink_to_fit(image, JPEG_LARGEST_SIDE), quality))


def encode_jpeg(image: Rgb, quality: int) -> bytes:
    """Return an uint8 [H, W, 3] RGB array of at most `JPEG_LARGEST_SIDE` pixels a side as the bytes of a JPEG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _decode_colour_tiff(data: bytes) -> Rgb | None:
    """Return the first page of a colour TIFF; None for a grey one, and if OpenCV cannot decode it like this."""
    whole, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(0, 1))
    if not whole or pages[0].ndim != 3:
        return None
    page = pages[0]
    if page.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise MediaError(_unreadable(f"samples of type {page.dtype}"))
    # OpenCV rounds 16 bits to 8, Ultralytics keeps the upper byte.
    upper = np.right_shift(page, 8, dtype=np.uint16) if page.dtype == np.uint16 else page
    return np.ascontiguousarray(upper[..., 2::-1], np.uint8)


def _decode_avif(data: bytes, pixels: int) -> Rgb:
    # Not Image.open: Ultralytics, once imported, replaces it by one that installs packages for unknown bytes.
    try:
        with AvifImageFile(io.BytesIO(data)) as picture:
            if picture.width * picture.height > pixels:  # the track of a film may say another size than its picture
                found = f"one of {picture.width}x{picture.height} that claims {pixels} pixels"
                raise MediaError(_unreadable(found))
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    except _BROKEN_PILLOW as error:
        raise MediaError(_unreadable(f"an AVIF that is cut off, or a HEIC photo ({error})")) from error


def _peak_bytes(head: bytes) -> int:
    if head[:4] in {*_TIFF, b"\xff\x4f\xff\x51"} or head[4:8] in {b"ftyp", b"jP  "}:
        return _PEAK_BYTES_DEEP
    return _PEAK_BYTES_ANIMATED if head[:4] in {b"RIFF", b"GIF8"} else _PEAK_BYTES


def _unreadable(found: str) -> str:
    return f"expected a whole JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000 or PNM, found {found}; save it again"

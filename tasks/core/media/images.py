"""Pictures: files to RGB arrays and back."""

from pathlib import Path

import cv2
import numpy as np

from tasks.core.geometry import Rgb
from tasks.core.media.errors import MediaError
from tasks.core.media.headers import image_size

MAX_PIXELS = 150_000_000
MAX_FILE_BYTES = 1 << 30
JPEG_LARGEST_SIDE = 65_500


def read_image(path: Path) -> Rgb:
    """Read a picture file as an upright uint8 [H, W, 3] RGB array; raise MediaError where that cannot be done."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MediaError(f"expected a picture of at most {MAX_FILE_BYTES:,} bytes, found {size:,}; shrink it")
        return decode_image(path.read_bytes())
    except OSError as error:
        raise MediaError(f"expected a readable picture, found {error.strerror or error}; upload it again") from error


def decode_image(data: bytes) -> Rgb:
    """Decode the bytes of a picture file to an uint8 [H, W, 3] RGB array.

    The EXIF orientation is applied, grey becomes three equal channels, alpha is dropped, 16 bits become 8. Raise
    MediaError for bytes that are no picture, are damaged or cut off, or would unpack to more than `MAX_PIXELS`.
    """
    check_pixels(data)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise MediaError(_unreadable(f"OpenCV says: {error.err or error.msg}")) from error
    # The stubs promise an array; OpenCV returns None for whatever it cannot finish.
    if not isinstance(bgr, np.ndarray) or bgr.size == 0:
        raise MediaError(_unreadable("pixels that are cut off, damaged or coded in a way that OpenCV does not know"))
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def check_pixels(data: bytes) -> None:
    """Raise MediaError where the header is missing or claims more than `MAX_PIXELS`; decodes nothing."""
    size = image_size(data)
    if size is None:
        raise MediaError(_unreadable("no header of a known picture format" if data else "an empty file"))
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise MediaError(
            f"expected 1 to {MAX_PIXELS:,} pixels, found {size[0]}x{size[1]} in the header; "
            "shrink the picture or cut it into tiles"
        )


def fit(image: Rgb, largest_side: int) -> Rgb:
    """Return the picture shrunk so that its longer side is at most `largest_side` pixels; never enlarge it."""
    height, width = image.shape[:2]
    gain = largest_side / max(height, width)
    if gain >= 1:
        return image
    sides = max(round(width * gain), 1), max(round(height * gain), 1)
    return np.asarray(cv2.resize(image, sides, interpolation=cv2.INTER_AREA), np.uint8)


def write_jpeg(path: Path, image: Rgb, quality: int = 88) -> None:
    """Write an RGB array as JPEG: complete under its name or not at all; sides beyond the format's limit shrink."""
    bgr = cv2.cvtColor(fit(image, JPEG_LARGEST_SIDE), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(encoded.tobytes())
    temporary.replace(path)


def _unreadable(found: str) -> str:
    return f"expected a whole JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000 or PNM, found {found}; save it again"

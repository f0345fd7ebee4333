"""Hostile bytes as an upright image, or the reason why not; its size is checked before it is decoded."""

import re
import struct
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from .decode_cost import too_costly
from .errors import PredictError
from .geometry import Rgb
from .jpeg_segments import (
    END_OF_IMAGE,
    MAX_SEGMENTS,
    STANDALONE,
    START_OF_FRAME,
    START_OF_SCAN,
    frame_size,
    jpeg_segments,
)

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# Fill bytes alone may stand before a marker. FF00 is skipped by some decoders and ends others.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_SKIPPED = STANDALONE - {0xD8, END_OF_IMAGE}  # TEM and RSTn


@dataclass(frozen=True)
class ImageDecoder:
    """Decodes images of at most `max_bytes` as sent and `max_pixels` decoded."""

    max_bytes: int
    max_pixels: int

    def decode(self, data: bytes) -> Rgb:
        """Return a JPEG or PNG as uint8 [height, width, 3] RGB, turned as its EXIF orientation says.

        Grey becomes colour, 16 bits become 8, alpha is dropped.

        Raises:
            PredictError: It is no such file, damaged, too large or too costly to decode.
        """
        if len(data) > self.max_bytes:
            raise PredictError(
                f"expected at most {self.max_bytes} bytes, found {len(data)}: make the picture smaller, or raise "
                "max_bytes in model_repository/predict/config.pbtxt"
            )
        width, height = image_size(data)
        if width * height > self.max_pixels:
            raise PredictError(
                f"expected at most {self.max_pixels} pixels, found {width} x {height}: make the picture smaller, or "
                "raise max_pixels in model_repository/predict/config.pbtxt"
            )
        if costly := too_costly(data):
            raise PredictError(
                f"expected a picture that decodes in the time of an ordinary one, found {costly}: save it anew as a "
                "baseline JPEG"
            )
        try:
            # The stubs promise an array; OpenCV returns None for an image that it cannot decode.
            picture: object = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except (cv2.error, MemoryError) as error:
            raise PredictError(_broken(" ".join(str(error).split()))) from error
        if not isinstance(picture, np.ndarray):
            raise PredictError(_broken("data that ends or breaks"))
        return np.asarray(picture, np.uint8)


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels as stored, by the header of a JPEG or PNG.

    Raises:
        PredictError: There is no such header.
    """
    if data.startswith(_PNG):
        if len(data) < 33 or data[12:16] != b"IHDR":
            raise PredictError(_broken("a PNG without a header"))
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(_JPEG):
        width, height = _jpeg_size(data)
    else:
        found = f"bytes that begin with {data[:8].hex(' ')}" if data else "no bytes"
        raise PredictError(f"expected a JPEG or PNG file, found {found}: send the file's own bytes, not base64 or text")
    if min(width, height) < 1:
        raise PredictError(_broken(f"{width} x {height} pixels"))
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Go from marker to marker as the decoder does; a file that the two could read differently is refused."""
    sides = None
    scanned = False
    for marker, at, _ in islice(jpeg_segments(data, find=_NEXT_MARKER.match), MAX_SEGMENTS):
        if marker == END_OF_IMAGE and scanned and sides:
            return sides
        if marker in _SKIPPED:
            continue
        # Markers that are not assigned are skipped by some decoders and end others.
        if marker < min(START_OF_FRAME) or marker in STANDALONE or int.from_bytes(data[at : at + 2]) < 2:
            break
        if marker in START_OF_FRAME:
            if sides:
                break
            sides = frame_size(data, at)
        scanned = scanned or marker == START_OF_SCAN
        if scanned and not sides:
            break
    # An image that is cut off would be decoded, its lower part grey.
    raise PredictError(
        _broken("a JPEG without a header" if sides is None else "a JPEG that ends before its picture does")
    )


def _broken(found: str) -> str:
    return f"expected a whole JPEG or PNG file, found {found}: save or send the picture again"

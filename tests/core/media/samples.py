"""Small real files for the tests of this folder."""

import struct
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.core.geometry import Rgb
from tasks.core.media import (
    MediaError,
    read_frames,
)


def photo(width: int = 60, height: int = 40) -> Rgb:
    """Return a picture whose upper left quarter is red, the rest dark."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[: height // 2, : width // 2] = (220, 20, 20)
    return image


def encoded(image: NDArray[Any], ending: str = ".png") -> bytes:
    return cv2.imencode(ending, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def film(path: Path, times_ms: Sequence[float], size: tuple[int, int] = (64, 48), rotation: int = 0) -> Path:
    """Write a video with B-frames and the given times, independent of the writer under test."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        if rotation:
            stream.set_display_rotation(rotation)
        rng = np.random.default_rng(0)
        for time_ms in times_ms:
            noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
            noise[: size[1] // 2, : size[0] // 2] = (220, 20, 20)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            frame.pts, frame.time_base = round(time_ms * 90), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames_until_error(path: Path) -> tuple[int, str]:
    count = 0
    try:
        for index, _, _ in read_frames(path):
            count = index + 1
    except MediaError as error:
        return count, str(error)
    return count, "no error"


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path

"""Plain copies of images and frames, which coco.json and labels/ refer to, as files that any tool reads."""

import io
from pathlib import Path

import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tasks.inference.results.summary import output_stem
from tasks.media.images import JPEG_LARGEST_SIDE, shrink_to_fit
from tasks.vision.geometry import Rgb

QUALITY = 92

_ORIENTATION = 0x0112
_READERS = (
    (b"\xff\xd8\xff", ".jpg", JpegImageFile),
    (b"\x89PNG", ".png", PngImageFile),
    (b"RIFF", ".webp", WebPImageFile),
)
_EXIF = b"Exif", b"eXIf", b"EXIF"


def copy_image(folder: Path, source: str, image: Rgb, data: bytes | Path) -> str:
    """Write a plain copy of a still image below `folder`; return its path there.

    A JPEG, PNG or WebP (`data` is its file) is copied byte for byte. Other formats, which many tools cannot read, and
    files that EXIF turns, which some tools ignore, become a JPEG of `image`, the upright pixels.
    """
    data = data if isinstance(data, bytes) else data.read_bytes()
    ending = _plain_ending(data)
    path = f"images/{output_stem(source)}{ending or '.jpg'}"
    _write(folder / path, data if ending else _jpeg(image))
    return path


def copy_frame(folder: Path, source: str, frame: int, image: Rgb) -> str:
    """Write a plain copy of a frame of a video, as JPEG, below `folder`; return its path there."""
    path = f"images/{output_stem(source)}-{frame:06d}.jpg"
    _write(folder / path, _jpeg(image))
    return path


def _plain_ending(data: bytes) -> str | None:
    """Return the ending of a file that any tool reads as it is."""
    matches = (ending for head, ending, reader in _READERS if data.startswith(head) and not _is_turned(data, reader))
    return next(matches, None)


def _is_turned(data: bytes, reader: type[JpegImageFile | PngImageFile | WebPImageFile]) -> bool:
    if not any(text in data for text in _EXIF):
        return False
    try:
        with reader(io.BytesIO(data)) as image:
            return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except Exception:  # noqa: BLE001 - whatever Pillow raises at a stranger's bytes, the pixels are known already
        return True


def _jpeg(image: Rgb) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(
        shrink_to_fit(image, JPEG_LARGEST_SIDE), QUALITY, "RGB", "420", fastdct=True
    )
    return encoded


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)

"""What a person sees of an image; the archive gets the original."""

from collections.abc import Callable
from pathlib import PurePosixPath

from tasks.media.images import decode_image, encode_jpeg

SHOWN = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})  # by every browser, and taken by Label Studio
_QUALITY = 95

Shown = Callable[[str], tuple[str, bytes]]  # `for_browsers` of an entry of a round


def for_browsers(entry: str, data: bytes) -> tuple[str, bytes]:
    """Return the name and the bytes under which a browser shows an image of a round.

    Raises:
        MediaError: It cannot be decoded.
    """
    name = shown_name(entry)
    if name == PurePosixPath(entry).name:
        return name, data
    return name, encode_jpeg(decode_image(data), _QUALITY)


def shown_name(entry: str) -> str:
    """Return the name under which a browser shows an image of a round."""
    path = PurePosixPath(entry)
    return path.name if path.suffix.lower() in SHOWN else f"{path.name}.jpg"

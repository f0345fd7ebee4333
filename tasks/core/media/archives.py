"""Zips of images, read in memory one entry at a time: nothing of a stranger's archive touches the disk."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tasks.core.media.errors import MediaError
from tasks.core.media.headers import IMAGE_ENDINGS, VIDEO_ENDINGS

MAX_ENTRIES = 200_000
MAX_ENTRY_BYTES = 1 << 28
MAX_RATIO = 1000
_FORBIDDEN = {"\\", "\x7f", *map(chr, range(32))}
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, IndexError)


def read_archive(path: Path) -> Iterator[tuple[str, bytes | MediaError]]:
    """Yield (entry name, its bytes or why they cannot be had) for each image of a zip, in the order of its directory.

    Folders, hidden files and files that are no media are passed over. Raise MediaError where the zip itself is damaged,
    has too many entries, or holds no image.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _media_entries(archive)
            for entry in entries:
                yield entry.filename, _read_entry(archive, entry)
    except _BROKEN as error:
        raise MediaError(f"expected a zip of images, found a damaged archive ({error}); zip it again") from error


def image_count(path: Path) -> int:
    """Return how many images the zip lists; 1 where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return len(_media_entries(archive))
    except (*_BROKEN, MediaError):
        return 1


def _media_entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        raise MediaError(f"expected at most {MAX_ENTRIES:,} entries, found {len(listed):,}; split the zip")
    entries = [entry for entry in listed if _is_media(entry)]
    if not entries:
        raise MediaError(f"expected images in the zip, found none among its {len(listed):,} entries; put images in it")
    return entries


def _is_media(entry: zipfile.ZipInfo) -> bool:
    place = PurePosixPath(entry.filename)
    hidden = place.name.startswith(".") or place.parts[:1] == ("__MACOSX",)
    return not entry.is_dir() and not hidden and place.suffix.lower() in IMAGE_ENDINGS | VIDEO_ENDINGS


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | MediaError:
    fault = _fault(entry)
    if fault:
        return MediaError(fault)
    try:
        with archive.open(entry) as file:
            # One byte more than the directory promises shows that it lied.
            data = file.read(entry.file_size + 1)
    except _BROKEN as error:
        return MediaError(f"expected a readable zip entry, found: {error}; zip it again")
    if len(data) != entry.file_size:
        return MediaError(f"expected {entry.file_size:,} bytes, found another number; zip it again")
    return data


def _fault(entry: zipfile.ZipInfo) -> str | None:
    place = PurePosixPath(entry.filename)
    if place.is_absolute() or ".." in place.parts or _FORBIDDEN & set(entry.filename):
        return "expected a plain relative name, found one that leads elsewhere; rename the file and zip it again"
    if place.suffix.lower() in VIDEO_ENDINGS:
        return "expected an image, found a video inside a zip; upload the video by itself"
    if entry.flag_bits & 0x1:
        return "expected a zip without a password, found an encrypted entry; zip it again without one"
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "expected an entry stored or deflated, found another packing, whose size has no bound; zip it again"
    return _size_fault(entry)


def _size_fault(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > MAX_ENTRY_BYTES:
        return f"expected at most {MAX_ENTRY_BYTES:,} bytes, found {entry.file_size:,}; shrink the image"
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return (
            f"expected packing by at most {MAX_RATIO} to 1, found {entry.compress_size:,} bytes that claim to "
            f"hold {entry.file_size:,}; save the image as JPEG or PNG"
        )
    return None

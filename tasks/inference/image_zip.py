"""Zips of images over any seekable file, one entry at a time: nothing of a stranger's archive touches the disk."""

import io
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, cast

from tasks.dataset.zip_names import (
    WRITE_UTF8,
    EntryNames,
    is_folder,
    is_operating_system_file,
    normal_name,
    read_names,
    unsafe_reason,
)
from tasks.media.errors import MediaError
from tasks.media.formats import ARCHIVE_ENDINGS, IMAGE_ENDINGS, UNREAD_ENDINGS, VIDEO_ENDINGS

MAX_ENTRIES = 200_000
MAX_ENTRY_BYTES = 1 << 28
MAX_RATIO = 1000
_MAX_DIRECTORY_BYTES = MAX_ENTRIES * 400
_TOLD_ENDINGS, _TOLD_NAME = 5, 100
_USUAL = re.compile(r"\.[a-z0-9_]{1,8}")
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, RuntimeError, ValueError, LookupError, OverflowError),
)


@dataclass(frozen=True)
class ZipImage:
    """One picture in a zip: its place in the directory, its name (`tasks.dataset.zip_names`), and its bytes unpacked.

    `fault` says why it cannot be read, as far as the directory tells; None for the others.
    """

    index: int
    name: str
    size: int
    fault: str | None = None


class ZipListing(NamedTuple):
    """The pictures of a zip, in the order of its directory, and what else its owner has to be told."""

    entries: list[ZipImage]
    notes: list[str]


def list_zip_images(file: BinaryIO) -> ZipListing:
    """Return what the directory of a zip names, from any seekable binary file.

    Of entries that share a name the first counts; the others have a fault, as do those that `read_zip_image` refuses
    and pictures of formats that nobody here reads. Files that are no media are passed over, and a note says how many;
    another one says where names had to be guessed. Nobody is told of folders, and of what macOS, Windows and network
    drives put beside files. Raise MediaError where the zip is damaged, has more than `MAX_ENTRIES` entries, or holds no
    image; an OSError of the file itself passes through.
    """
    bounded = _BoundedFile(file)
    try:
        with zipfile.ZipFile(cast("BinaryIO", bounded)) as archive:
            listed = archive.infolist()
    except (*_BROKEN, OSError) as error:
        # A store that is away is no fault of the zip.
        if bounded.fault:
            raise bounded.fault from None
        raise MediaError(f"expected a zip of images, found a damaged archive ({error}); zip it again") from error
    if len(listed) > MAX_ENTRIES:
        raise _too_many(f"{len(listed):,}")
    names = read_names(listed)
    seen: set[str] = set()
    entries, others = list[ZipImage](), Counter[str]()
    for index, (info, written) in enumerate(zip(listed, names.written, strict=True)):
        name = normal_name(written)
        if not name or is_folder(written) or is_operating_system_file(name):
            continue
        if not _is_media(name):
            ending = _ending(name)
            others[ending if _USUAL.fullmatch(ending) else ""] += 1
            continue
        if unsafe_reason(written):
            name = written
        fault = _fault(info, written) or (_REPEATED if name in seen else None)
        entries.append(ZipImage(index, name, info.file_size, fault))
        seen.add(name)
    if not entries:
        raise MediaError(f"expected images in the zip, found none among its {len(listed):,} entries; put images in it")
    return ZipListing(entries, [*_guess_notes(names, entries), *_other_notes(others)])


def _guess_notes(names: EntryNames, entries: list[ZipImage]) -> Iterator[str]:
    guessed = [entry.name for entry in entries if names.guess and entry.index in names.guess.places]
    if names.guess and guessed:
        found = f"{len(guessed):,} without, {names.guess}, such as {guessed[0][:_TOLD_NAME]!r}"
        yield f"expected names that say they are UTF-8, found {found}; if these letters are wrong, {WRITE_UTF8}"


def _other_notes(others: Counter[str]) -> Iterator[str]:
    if others:
        kinds = [f"{count:,} {ending or 'of no usual ending'}" for ending, count in others.most_common(_TOLD_ENDINGS)]
        kinds += ["others"] if len(others) > _TOLD_ENDINGS else []
        yield (
            f"expected images, found {others.total():,} files that are none by their names ({', '.join(kinds)}), which "
            "were passed over; name images as such, like x.jpg, or leave the others out"
        )


def read_zip_image(archive: zipfile.ZipFile, index: int) -> bytes:
    """Return the bytes of the entry at that place of the directory (`Entry.index`); raise MediaError where it is unfit.

    An OSError of the file itself passes through. Safe in many threads.
    """
    entries = archive.infolist()
    if not 0 <= index < len(entries):
        raise MediaError(
            f"expected entry {index} in the zip, found {len(entries):,} entries; upload the same zip again"
        )
    entry = entries[index]
    fault = _fault(entry, entry.orig_filename)
    if fault:
        raise MediaError(fault)
    try:
        with archive.open(entry) as file:
            # One byte more than the directory promises shows that it lied.
            data = file.read(entry.file_size + 1)
    except _BROKEN as error:
        raise MediaError(f"expected a readable zip entry, found: {error}; zip it again") from error
    if len(data) != entry.file_size:
        raise MediaError(f"expected {entry.file_size:,} bytes, found another number; zip it again")
    return data


class _BoundedFile(io.RawIOBase):
    """A file whose reader may not take all of it at once, as zipfile does with a directory however large it claims.

    `fault` is the error that the file itself raised, if it did.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.fault: OSError | None = None
        self._file = file
        self._size = 0
        self._size = self.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset + (self._size if whence == io.SEEK_END else 0) < 0:
            raise ValueError("a place before its start")
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self.fault = error
            raise

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise _too_many(f"a directory of {size:,} bytes")
        try:
            return self._file.read(-1 if size is None else size)
        except OSError as error:
            self.fault = error
            raise


_REPEATED = "expected each name once in the zip, found it again; the first was used, rename the other"


def _too_many(found: str) -> MediaError:
    return MediaError(f"expected at most {MAX_ENTRIES:,} entries, found {found}; split the zip")


def _is_media(name: str) -> bool:
    return _ending(name) in IMAGE_ENDINGS | VIDEO_ENDINGS | UNREAD_ENDINGS | ARCHIVE_ENDINGS


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _fault(entry: zipfile.ZipInfo, name: str) -> str | None:
    if entry.header_offset < 0:
        return "expected an entry inside the zip, found one before its start; zip it again"
    if unsafe := unsafe_reason(name):
        return f"expected a plain relative name, found one that leads elsewhere: {unsafe}; rename it and zip it again"
    if unread := _unread(_ending(name)):
        return unread
    if entry.flag_bits & 0x1:
        return "expected a zip without a password, found an encrypted entry; zip it again without one"
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "expected an entry stored or deflated, found another packing, whose size has no bound; zip it again"
    return _size_fault(entry)


def _unread(ending: str) -> str | None:
    if ending in VIDEO_ENDINGS:
        return "expected an image, found a video inside a zip; upload the video by itself"
    if ending in ARCHIVE_ENDINGS:
        return "expected an image, found an archive inside a zip; give its images as a zip of their own"
    if ending in UNREAD_ENDINGS:
        return f"expected a picture of a kind that is read here, found {ending}; save it as JPEG or PNG"
    return None


def _size_fault(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > MAX_ENTRY_BYTES:
        return f"expected at most {MAX_ENTRY_BYTES:,} bytes, found {entry.file_size:,}; shrink the image"
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return (
            f"expected packing by at most {MAX_RATIO} to 1, found {entry.compress_size:,} bytes that claim to "
            f"hold {entry.file_size:,}; save the image as JPEG or PNG"
        )
    return None

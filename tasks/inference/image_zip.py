"""Zips of images over any seekable file, one entry at a time: nothing of a stranger's archive touches the disk."""

import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

from tasks.dataset.safe_zip import (
    EntryFault,
    TooManyEntriesError,
    ZipError,
    ZipPolicy,
    entry_fault,
    open_zip,
    read_entry,
    unsafe_entry_reason,
)
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
POLICY = ZipPolicy(
    max_entries=MAX_ENTRIES, max_directory_bytes=MAX_ENTRIES * 400, max_entry_bytes=1 << 28, max_ratio=1000
)
_SHOWN_ENDINGS = 5
_SHOWN_NAME = 100
_USUAL_ENDING = re.compile(r"\.[a-z0-9_]{1,8}")
_FAULTS = {
    EntryFault.OUTSIDE: "expected an entry inside the zip, found one before its start; zip it again",
    EntryFault.ENCRYPTED: "expected a zip without a password, found an encrypted entry; zip it again without one",
    EntryFault.PACKING: (
        "expected an entry stored or deflated, found another packing, whose size has no bound; zip it again"
    ),
    EntryFault.SIZE: "expected at most {most:,} bytes, found {size:,}; shrink the image",
    EntryFault.RATIO: (
        "expected packing by at most {ratio} to 1, found {packed:,} bytes that claim to hold {size:,}; save the image "
        "as JPEG or PNG"
    ),
}
_REPEATED = "expected each name once in the zip, found it again; the first was used, rename the other"


@dataclass(frozen=True, kw_only=True)
class ZipImage:
    """One picture in a zip: its place in the directory, its name (`tasks.dataset.zip_names`), and its bytes unpacked.

    `fault` says why it cannot be read, as far as the directory tells; None for the others.
    """

    index: int
    name: str
    size: int
    fault: str | None = None


class ZipListing(NamedTuple):
    """The pictures of a zip, in the order of its directory, and what else its owner should know."""

    entries: list[ZipImage]
    notes: list[str]


def list_zip_images(file: BinaryIO) -> ZipListing:
    """Return what the directory of a zip names, from any seekable binary file.

    Of entries that share a name the first counts; the others have a fault, as do those that `read_zip_image` refuses
    and pictures of formats that nobody here reads. One note counts the files that are no media, another says that names
    had to be guessed. Folders, and what macOS, Windows and network drives put beside files, are left out.

    Raises:
        MediaError: The zip is damaged, has more than `MAX_ENTRIES` entries, or holds no image.
        OSError: The file itself cannot be read.
    """
    try:
        with open_zip(file, POLICY) as archive:
            listed = archive.infolist()
    except TooManyEntriesError as error:
        raise MediaError(f"expected at most {POLICY.max_entries:,} entries, found {error}; split the zip") from error
    except ZipError as error:
        raise MediaError(f"expected a zip of images, found a damaged archive ({error}); zip it again") from error
    names = read_names(listed)
    seen: set[str] = set()
    entries = list[ZipImage]()
    others = Counter[str]()
    for index, (info, written) in enumerate(zip(listed, names.written, strict=True)):
        name = normal_name(written)
        if not name or is_folder(written) or is_operating_system_file(name):
            continue
        if not _is_media(name):
            ending = _ending(name)
            others[ending if _USUAL_ENDING.fullmatch(ending) else ""] += 1
            continue
        if unsafe_reason(written):
            name = written
        fault = _fault(info, written) or (_REPEATED if name in seen else None)
        entries.append(ZipImage(index=index, name=name, size=info.file_size, fault=fault))
        seen.add(name)
    if not entries:
        raise MediaError(f"expected images in the zip, found none among its {len(listed):,} entries; put images in it")
    return ZipListing(entries, [*_guess_notes(names, entries), *_other_notes(others)])


def _guess_notes(names: EntryNames, entries: list[ZipImage]) -> Iterator[str]:
    guessed = [entry.name for entry in entries if names.guess and entry.index in names.guess.places]
    if names.guess and guessed:
        found = f"{len(guessed):,} without, {names.guess}, such as {guessed[0][:_SHOWN_NAME]!r}"
        yield f"expected names that say they are UTF-8, found {found}; if these letters are wrong, {WRITE_UTF8}"


def _other_notes(others: Counter[str]) -> Iterator[str]:
    if others:
        kinds = [f"{count:,} {ending or 'of no usual ending'}" for ending, count in others.most_common(_SHOWN_ENDINGS)]
        kinds += ["others"] if len(others) > _SHOWN_ENDINGS else []
        yield (
            f"expected images, found {others.total():,} files that are none by their names ({', '.join(kinds)}), which "
            "were passed over; name images as such, like x.jpg, or leave the others out"
        )


def read_zip_image(archive: zipfile.ZipFile, index: int) -> bytes:
    """Return the bytes of the entry at place `index` of the directory; safe in many threads.

    Raises:
        MediaError: There is no such entry, or it must not or cannot be read.
        OSError: The file itself cannot be read.
    """
    entries = archive.infolist()
    if not 0 <= index < len(entries):
        raise MediaError(
            f"expected entry {index} in the zip, found {len(entries):,} entries; upload the same zip again"
        )
    entry = entries[index]
    if fault := _fault(entry, entry.orig_filename):
        raise MediaError(fault)
    try:
        return read_entry(archive, entry)
    except ZipError as error:
        raise MediaError(f"expected a readable zip entry, found: {error}; zip it again") from error


def _is_media(name: str) -> bool:
    return _ending(name) in IMAGE_ENDINGS | VIDEO_ENDINGS | UNREAD_ENDINGS | ARCHIVE_ENDINGS


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _fault(entry: zipfile.ZipInfo, name: str) -> str | None:
    if unsafe := unsafe_reason(name):
        return f"expected a plain relative name, found one that leads elsewhere: {unsafe}; rename it and zip it again"
    if unsafe := unsafe_entry_reason(entry, name):
        return f"expected an ordinary file, found {unsafe}; zip the file itself"
    if unread := _unread(_ending(name)):
        return unread
    fault = entry_fault(entry, POLICY)
    return fault and _FAULTS[fault].format(
        most=POLICY.max_entry_bytes, ratio=POLICY.max_ratio, size=entry.file_size, packed=entry.compress_size
    )


def _unread(ending: str) -> str | None:
    if ending in VIDEO_ENDINGS:
        return "expected an image, found a video inside a zip; upload the video by itself"
    if ending in ARCHIVE_ENDINGS:
        return "expected an image, found an archive inside a zip; give its images as a zip of their own"
    if ending in UNREAD_ENDINGS:
        return f"expected a picture of a kind that is read here, found {ending}; save it as JPEG or PNG"
    return None

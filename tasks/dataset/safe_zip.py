"""The one reader of zips from outside: nothing that a zip claims is believed, and nothing is written to disk.

Only stored and deflated entries are read: zipfile bounds what those two unpack to, but not bzip2 and LZMA.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import BinaryIO, cast

from tasks.dataset.zip_names import unsafe_reason
from tasks.errors import safe_repr

_ENTRY = b"PK\1\2"
# What zipfile was seen to raise on damaged and on hostile bytes.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError),
    *(ValueError, LookupError, OverflowError, MemoryError),
)


class ZipError(Exception):
    """A zip or an entry that is damaged."""


class TooManyEntriesError(ZipError):
    """A zip with too many entries, or with a directory too large to be loaded; the text says how many."""


@dataclass(frozen=True, kw_only=True)
class ZipPolicy:
    """What a zip may claim: an entry may be `max_ratio` times its packed size, or smaller than `ratio_from_bytes`."""

    max_entries: int
    max_directory_bytes: int
    max_entry_bytes: int
    max_ratio: float
    ratio_from_bytes: int = 0


class EntryFault(Enum):
    """Why an entry must not be read."""

    OUTSIDE = auto()
    ENCRYPTED = auto()
    PACKING = auto()
    SIZE = auto()
    RATIO = auto()


def open_zip(file: BinaryIO, policy: ZipPolicy) -> zipfile.ZipFile:
    """Return the zip in a seekable file; closing it leaves the file open.

    Raises:
        TooManyEntriesError: The directory is larger than the policy allows.
        ZipError: The zip is damaged.
        OSError: The file itself cannot be read.
    """
    # zipfile loads a directory however large it claims to be.
    bounded = _BoundedFile(file, policy)
    try:
        archive = zipfile.ZipFile(cast("BinaryIO", bounded))
    except (*_DAMAGE, OSError) as error:
        raise bounded.fault or ZipError(str(error)) from error
    bounded.policy = None
    if len(archive.infolist()) > policy.max_entries:
        raise TooManyEntriesError(f"{len(archive.infolist()):,}")
    return archive


def unsafe_entry_reason(entry: zipfile.ZipInfo, name: str) -> str | None:
    """Return why an entry that was written as `name` is no ordinary file or folder inside the zip, None if it is."""
    if reason := unsafe_reason(name):
        return reason
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind in {0, stat.S_IFREG, stat.S_IFDIR}:
        return None
    return "a symbolic link" if kind == stat.S_IFLNK else "a device, pipe or socket"


def entry_fault(entry: zipfile.ZipInfo, policy: ZipPolicy) -> EntryFault | None:
    """Return why an entry must not be read, as far as the directory tells."""
    if entry.header_offset < 0:
        return EntryFault.OUTSIDE
    if entry.flag_bits & 1:
        return EntryFault.ENCRYPTED
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return EntryFault.PACKING
    if entry.file_size > policy.max_entry_bytes:
        return EntryFault.SIZE
    is_bomb = entry.file_size > policy.max_ratio * max(entry.compress_size, 1)
    return EntryFault.RATIO if is_bomb and entry.file_size >= policy.ratio_from_bytes else None


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of an entry that has no fault; safe in many threads.

    Raises:
        ZipError: The entry is damaged, or of another size than the directory claims.
        OSError: The file itself cannot be read.
    """
    # One byte more than the directory claims, so that zipfile compares the checksum of an empty entry, too.
    return b"".join(read_chunks(archive, entry, entry.file_size + 1))


def read_chunks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of an entry that has no fault.

    Raises:
        ZipError: The entry is damaged, or of another size than the directory claims.
        OSError: The file itself cannot be read.
    """
    size = 0
    try:
        with archive.open(entry) as stream:
            while data := stream.read(chunk_bytes):
                size += len(data)
                yield data
    except _DAMAGE as error:
        raise ZipError(safe_repr(str(error))) from error
    if size != entry.file_size:
        raise ZipError(f"{size} of {entry.file_size} bytes")


class _BoundedFile:
    """A file that gives no directory beyond `policy`; `fault` is the error that the file itself raised."""

    def __init__(self, file: BinaryIO, policy: ZipPolicy) -> None:
        self.policy: ZipPolicy | None = policy
        self.fault: OSError | None = None
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable
        self._read = file.read

    def read(self, size: int = -1) -> bytes:
        if self.policy and size > self.policy.max_directory_bytes:
            raise TooManyEntriesError(f"a directory of {size:,} bytes")
        try:
            data = self._read(size)
        except OSError as error:
            self.fault = error
            raise
        # A value for each entry takes ten times the bytes of the directory.
        if self.policy and (entries := data.count(_ENTRY)) > self.policy.max_entries:
            raise TooManyEntriesError(f"{entries:,}")
        return data

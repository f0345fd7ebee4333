"""A zip from outside, read in place: nothing is written to disk and nothing it claims is believed.

Only stored and deflated entries are read: zipfile bounds what those two unpack to, but not bzip2 and LZMA.
"""

import struct
import threading
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.dataset.entry_filter import filter_entries
from tasks.dataset.findings import Finding, error
from tasks.errors import expected_found_fix, safe_repr
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy

MAX_ENTRY_BYTES = 256 * 2**20

_DIRECTORY_BYTES_PER_ENTRY = 256
_LOCAL_HEADER_BYTES = 30
# Small archives of blank images and short texts pack very well and are harmless.
_RATIO_FROM_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**20
# What zipfile was seen to raise on damaged and on hostile bytes.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    IndexError,
    OverflowError,
    MemoryError,
)


class ArchiveError(Exception):
    """An entry that cannot be read; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(frozen=True)
class Archive:
    """An open zip: `entries` are its files by name, relative to `root` (empty, or the wrapping folder and a slash).

    Unsafe, doubled and junk entries are not among them; `refused` holds those that `read` refuses, bombs and encrypted
    ones. `places` holds the names of files and of explicit folders, in order.
    """

    file: zipfile.ZipFile
    root: str
    entries: Mapping[str, zipfile.ZipInfo]
    places: Sequence[str]
    refused: Mapping[str, Finding]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def read(self, name: str, limit: int = MAX_ENTRY_BYTES) -> bytes:
        """Return the bytes of one entry, at most `limit` of them; safe to call from several threads.

        Raises ArchiveError where it is refused, larger, damaged or cut short, and KeyError where it does not exist.
        """
        entry = self.entries[name]
        if name in self.refused:
            raise ArchiveError(self.refused[name])
        if entry.file_size > limit:
            raise ArchiveError(_entry_too_large(name, entry.file_size, limit))
        try:
            with self._lock, self.file.open(entry) as stream:
                # At the size that the directory claims zipfile compares the checksum, whatever follows.
                data = stream.read(entry.file_size)
        except _ZIP_ERRORS as exc:
            raise ArchiveError(_entry_unreadable(name, safe_repr(str(exc)))) from exc
        if len(data) != entry.file_size:
            raise ArchiveError(_entry_unreadable(name, f"{len(data)} of {entry.file_size} bytes"))
        return data

    def damage(self, name: str) -> Finding | None:
        """Read an entry of any size to its end and say what is wrong with it, if anything; nothing of it is kept."""
        if name in self.refused:
            return None
        try:
            with self._lock, self.file.open(self.entries[name]) as stream:
                size = sum(map(len, iter(lambda: stream.read(_CHUNK_BYTES), b"")))
        except _ZIP_ERRORS as exc:
            return _entry_unreadable(name, safe_repr(str(exc)))
        whole = self.entries[name].file_size
        return None if size == whole else _entry_unreadable(name, f"{size} of {whole} bytes")

    def checksums(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return the CRC-32 and the size in bytes of entries, as the directory claims them."""
        return {name: (self.entries[name].CRC, self.entries[name].file_size) for name in names}

    def has_folder(self, name: str) -> bool:
        """Tell whether there is such a folder, with something in it or not; `""` is the root."""
        at = bisect_left(self.places, f"{name}/")
        return not name or (at < len(self.places) and self.places[at].startswith(f"{name}/"))

    def close(self) -> None:
        """Close the file; reading after that fails."""
        self.file.close()

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self.close()


def open_archive(path: Path, policy: ValidationPolicy) -> tuple[Archive | None, list[Finding]]:
    """Open a zip and screen its directory; the archive is None where nothing in it can be used.

    Never raises for what the file holds. The caller closes the archive (`with archive:`).
    """
    try:
        faults = _find_directory_errors(path, policy)
        if faults:
            return None, faults
        file = zipfile.ZipFile(path)
    except _ZIP_ERRORS as exc:
        return None, [_unreadable(path, safe_repr(str(exc)))]
    faults = _find_size_errors(file.infolist(), path.stat().st_size, policy)
    if faults:
        file.close()
        return None, faults
    screened, faults = filter_entries(file.infolist(), policy)
    return Archive(file, *screened), faults


def _find_directory_errors(path: Path, policy: ValidationPolicy) -> list[Finding]:
    """Check the directory's size before zipfile loads all of it into memory."""
    if not path.is_file():
        return [_unreadable(path, "no such file")]
    count, length = _declared_directory(path)
    if count > policy.max_entries:
        return [_too_many(str(count), policy)]
    if length > 2**16 + policy.max_entries * _DIRECTORY_BYTES_PER_ENTRY:
        return [_too_many(f"a directory of {length} bytes", policy)]
    return []


def _declared_directory(path: Path) -> tuple[int, int]:
    """Return the number of entries and the directory's bytes as the end record says; zeros where there is no record."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 22 - 65535 - 76))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        return 0, 0
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7" and tail[at - 76 : at - 72] == b"PK\6\6":
        count, length = struct.unpack_from("<QQ", tail, at - 76 + 32)
    else:
        count, length = struct.unpack_from("<HI", tail, at + 10)
    return count, length


def _find_size_errors(entries: list[zipfile.ZipInfo], file_bytes: int, policy: ValidationPolicy) -> list[Finding]:
    if len(entries) > policy.max_entries:
        return [_too_many(str(len(entries)), policy)]
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > policy.max_bytes:
        fix = "Split the dataset, or raise max_bytes in the policy."
        return [_too_large(f"at most {policy.max_bytes} bytes unpacked", f"{unpacked}", fix)]
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > max(policy.max_ratio * packed, _RATIO_FROM_BYTES):
        found = f"{unpacked} bytes packed into {packed}"
        fix = "Take out what packs that well, or raise max_ratio in the policy."
        return [_too_large(f"at most {policy.max_ratio:g} times the packed size", found, fix)]
    if packed > file_bytes or _overlap(entries):
        found = "entries that share bytes, as those of zip bombs do"
        return [_too_large("entries that do not overlap", found, "Make the archive anew with an ordinary zip tool.")]
    return []


def _overlap(entries: list[zipfile.ZipInfo]) -> bool:
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    return any(
        one.header_offset + _LOCAL_HEADER_BYTES + one.compress_size > other.header_offset
        for one, other in pairwise(ordered)
    )


def _too_many(found: str, policy: ValidationPolicy) -> Finding:
    fix = "Split the dataset, or raise max_entries in the policy."
    return _too_large(f"at most {policy.max_entries} entries", found, fix)


def _too_large(expected: str, found: str, fix: str, path: str | None = None) -> Finding:
    return error(Code.ARCHIVE_TOO_LARGE, expected_found_fix(expected, found, fix), path=path)


def _entry_too_large(name: str, size: int, limit: int) -> Finding:
    return _too_large(f"at most {limit} bytes in this entry", f"{size}", "Make it smaller or take it out.", name)


def _unreadable(path: Path, reason: str) -> Finding:
    fix = "Check the name, or make and upload the archive again: it may have been cut short."
    return error(
        Code.ARCHIVE_UNREADABLE, expected_found_fix("a whole zip archive", f"{safe_repr(path.name)}: {reason}", fix)
    )


def _entry_unreadable(name: str, reason: str) -> Finding:
    fix = "Make and upload the archive again: this entry is damaged."
    return error(
        Code.ARCHIVE_UNREADABLE,
        expected_found_fix("an entry that unpacks and fits its checksum", reason, fix),
        path=name,
    )

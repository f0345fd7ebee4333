"""A dataset's zip, read in place: nothing is written to disk and nothing it claims is believed."""

import threading
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import SEEK_END
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from tasks.dataset.entry_filter import filter_entries
from tasks.dataset.findings import Finding, error
from tasks.dataset.safe_zip import TooManyEntriesError, ZipError, ZipPolicy, open_zip, read_chunks, read_entry
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy

MAX_ENTRY_BYTES = 256 * 2**20

_DIRECTORY_BYTES_PER_ENTRY = 256
_LOCAL_HEADER_BYTES = 30
# Small archives of blank images and short texts pack very well and are harmless.
_RATIO_FROM_BYTES = 16 * 2**20
_ENTRY_RATIO_FROM_BYTES = 2**20
_CHUNK_BYTES = 2**20


class ArchiveError(Exception):
    """An entry that cannot be read; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An open zip with its `FilteredEntries`; `read` refuses those in `refused`, and `opened` closes the file."""

    file: zipfile.ZipFile
    root: str
    entries: Mapping[str, zipfile.ZipInfo]
    places: Sequence[str]
    refused: Mapping[str, Finding]
    opened: ExitStack = field(repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def read(self, name: str, limit: int = MAX_ENTRY_BYTES) -> bytes:
        """Return the bytes of one entry, at most `limit` of them; safe to call from several threads.

        Raises:
            ArchiveError: The entry is refused, larger, damaged or cut short.
            KeyError: There is no such entry.
        """
        entry = self.entries[name]
        if name in self.refused:
            raise ArchiveError(self.refused[name])
        if entry.file_size > limit:
            expected = f"at most {limit} bytes in this entry"
            raise ArchiveError(_too_large(expected, f"{entry.file_size}", "Make it smaller or take it out.", name))
        try:
            with self._lock:
                return read_entry(self.file, entry)
        except (ZipError, OSError) as exc:
            raise ArchiveError(_damaged(name, exc)) from exc

    def damage(self, name: str) -> Finding | None:
        """Return the fault of an entry of any size, if any, after reading it to its end; its bytes are dropped."""
        if name in self.refused:
            return None
        try:
            with self._lock:
                for _ in read_chunks(self.file, self.entries[name], _CHUNK_BYTES):
                    pass
        except (ZipError, OSError) as exc:
            return _damaged(name, exc)
        return None

    def checksums(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return the CRC-32 and the size in bytes of entries, as the directory claims them."""
        return {name: (self.entries[name].CRC, self.entries[name].file_size) for name in names}

    def has_folder(self, name: str) -> bool:
        """Return whether there is such a folder, with something in it or not; `""` is the root."""
        at = bisect_left(self.places, f"{name}/")
        return not name or (at < len(self.places) and self.places[at].startswith(f"{name}/"))

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """Close the file; reading after that fails."""
        self.opened.close()


def open_archive(path: Path, policy: ValidationPolicy) -> tuple[Archive | None, list[Finding]]:
    """Open a zip and check its directory; the archive is None if nothing in it can be used.

    Never raises for what the file holds. The caller closes the archive (`with archive:`).
    """
    try:
        if not path.is_file():
            return None, [_unreadable(path.name, "no such file")]
        file = path.open("rb")
    except (OSError, ValueError) as exc:
        return None, [_unreadable(path.name, safe_repr(str(exc)))]
    return open_archive_file(file, path.name, policy)


def open_archive_file(file: BinaryIO, name: str, policy: ValidationPolicy) -> tuple[Archive | None, list[Finding]]:
    """Open the zip in a seekable file of this name as `open_archive` does; the file is closed with the archive."""
    limits = ZipPolicy(
        max_entries=policy.max_entries,
        max_directory_bytes=2**16 + policy.max_entries * _DIRECTORY_BYTES_PER_ENTRY,
        max_entry_bytes=policy.max_bytes,
        max_ratio=policy.max_ratio,
        ratio_from_bytes=_ENTRY_RATIO_FROM_BYTES,
    )
    with ExitStack() as opened:
        opened.enter_context(file)
        try:
            archive_file = opened.enter_context(open_zip(file, limits))
            file_bytes = file.seek(0, SEEK_END)
        except TooManyEntriesError as exc:
            fix = "Split the dataset, or raise max_entries in the policy."
            return None, [_too_large(f"at most {policy.max_entries:,} entries", str(exc), fix)]
        except (ZipError, OSError, ValueError) as exc:
            return None, [_unreadable(name, safe_repr(str(exc)))]
        faults = _find_size_errors(archive_file.infolist(), file_bytes, policy)
        if faults:
            return None, faults
        filtered, faults = filter_entries(archive_file.infolist(), limits)
        archive = Archive(
            file=archive_file,
            root=filtered.root,
            entries=filtered.entries,
            places=filtered.places,
            refused=filtered.refused,
            opened=opened.pop_all(),
        )
        return archive, faults


def _find_size_errors(entries: list[zipfile.ZipInfo], file_bytes: int, policy: ValidationPolicy) -> list[Finding]:
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


def _too_large(expected: str, found: str, fix: str, path: str | None = None) -> Finding:
    return error(Code.ARCHIVE_TOO_LARGE, expected, found, fix, path=path)


def _unreadable(name: str, reason: str) -> Finding:
    fix = "Check the name, or make and upload the archive again: it may have been cut short."
    return error(Code.ARCHIVE_UNREADABLE, "a whole zip archive", f"{safe_repr(name)}: {reason}", fix)


def _damaged(name: str, exc: Exception) -> Finding:
    fix = "Make and upload the archive again: this entry is damaged."
    expected = "an entry that unpacks and fits its checksum"
    return error(Code.ARCHIVE_UNREADABLE, expected, str(exc), fix, path=name)

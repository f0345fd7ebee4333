"""The log files of a service, with those that were rotated away, read in blocks of whole lines from either end.

The supervisor renames a file that is full: `triton.log` becomes `triton.log.1`, and so on. An open file is read to its
end whatever it is called by then. A last line without an end is still being written.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

BLOCK = 1 << 20
PAGE_BLOCK = 1 << 17  # from the end a page is read, of a hundred lines
LONGEST_LINE = 1 << 16  # bytes; of a longer one the beginning is read
_AGES = 20  # more than the supervisor keeps
_NAME = re.compile(r"([a-z][a-z0-9-]*)\.log")


class Block(NamedTuple):
    """Whole lines without the end of the last one, and where they begin in the file, in bytes."""

    start: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """An open file: its number on the disk, how long it was when it was opened, and when it was written last."""

    descriptor: int
    number: int
    size: int
    written: datetime

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises OSError if it cannot be opened, or is no file."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(f"expected a file, found something else: {path}")
        written = datetime.fromtimestamp(status.st_mtime, UTC)
        return cls(descriptor=descriptor, number=status.st_ino, size=status.st_size, written=written)

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def forwards(self, start: int = 0) -> Iterator[Block]:
        """Yield its blocks from a place on; the last may be of a line that is still being written."""
        line, kept, length, place = start, b"", 0, start  # `kept` is the beginning of the line that begins at `line`
        while place < self.size and (data := os.pread(self.descriptor, min(BLOCK, self.size - place), place)):
            last = data.rfind(b"\n")
            if last < 0:
                kept, length = (kept + data)[: LONGEST_LINE + 1], length + len(data)
            else:
                if length > LONGEST_LINE:  # what is kept of this line is not all of it
                    end = data.find(b"\n")
                    yield Block(line, shorten(kept, length + end))
                    line, kept, data, last = place + end + 1, b"", data[end + 1 :], last - end - 1
                    place += end + 1
                if last >= 0:
                    yield Block(line, kept + data[:last])
                kept = data[last + 1 :]
                length, line = len(kept), place + last + 1
            place += len(data)
        if length:
            yield Block(line, shorten(kept, length))

    def backwards(self, end: int) -> Iterator[Block]:
        """Yield its blocks up to a place, which is the beginning or the end of a line, the last one first."""
        while end > 0:
            start = max(0, end - PAGE_BLOCK)
            data = os.pread(self.descriptor, end - start, start)
            cut = data.find(b"\n", 0, len(data) - 1) if start else -1
            if start and cut < 0:
                line = self._line_start(start)
                beginning = os.pread(self.descriptor, LONGEST_LINE + 1, line)
                yield Block(line, shorten(beginning, end - line - data.endswith(b"\n")))
                end = line
                continue
            yield Block(start + cut + 1, data[cut + 1 :].removesuffix(b"\n"))
            end = start + cut + 1

    def last_line_end(self, start: int) -> int:
        """Return where the last whole line ends of those that begin at `start`; `start` if there is none."""
        end = self.size
        while end > start:
            begin = max(start, end - BLOCK)
            found = os.pread(self.descriptor, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return start

    def _line_start(self, place: int) -> int:
        """Where the line begins that a place is in."""
        while place > 0:
            start = max(0, place - BLOCK)
            found = os.pread(self.descriptor, place - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            place = start
        return 0


def shorten(line: bytes, length: int) -> bytes:
    """Return the beginning of a line of that length, and how much more there was."""
    if length <= LONGEST_LINE:
        return line[:length]
    return line[:LONGEST_LINE] + f" ... {length - LONGEST_LINE:,} bytes more".encode()


def list_services(folder: Path) -> list[str]:
    """Return the services that have a log in a folder, by name."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob("*.log")) if folder.is_dir() else ()
    return sorted(name[1] for name in found if name)


@contextlib.contextmanager
def open_logs(folder: Path, service: str) -> Iterator[list[LogFile]]:
    """Yield the files of a service, the newest first; none if it has none."""
    files: list[LogFile] = []
    with contextlib.ExitStack() as stack:
        # The newest is opened first: whatever is renamed meanwhile is found again under the next name, and known.
        for name in (f"{service}.log", *(f"{service}.log.{age}" for age in range(1, _AGES + 1))):
            with contextlib.suppress(OSError):
                opened = LogFile.open(folder / name)
                stack.callback(opened.close)
                if opened.number not in {file.number for file in files}:
                    files.append(opened)
        yield files

"""A folder of lines that never takes more than so many bytes, whoever writes to it: the oldest lines go first."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

# Whole files go, so this is the share of the lines that goes at one time.
FILES = 8
_LOCK = ".lock"
_NAME = re.compile(r"live-(\d{10})\.jsonl")


class _File(NamedTuple):
    number: int
    size: int

    @property
    def name(self) -> str:
        return f"live-{self.number:010d}.jsonl"


class LogFolder:
    """Files of lines, the newest with the highest number, which take at most `max_bytes` together.

    Any number of processes may append at one time: a lock has one after the other do so. Only the owner reads the
    files. Which file is the oldest is said by its number and by no clock.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def append(self, line: bytes) -> None:
        """Append a line, which is there whole or not at all; a process that is killed may leave the half of it.

        Raises:
            OSError: The line is longer than all lines may be, or the folder takes nothing.
        """
        if len(line) + 2 > self._max_bytes:
            raise OSError(errno.EFBIG, f"a line of {len(line)} bytes in a log of {self._max_bytes}")
        with suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        with self._locked() as folder:
            self._write(folder, line + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Yield the folder, to which nobody else appends meanwhile."""
        # All else is done by this descriptor: if somebody replaces the folder meanwhile, nothing goes into the new one.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield folder
            finally:
                os.close(lock)
        finally:
            os.close(folder)

    def _write(self, folder: int, line: bytes) -> None:
        files = _list_files(folder)
        last = files[-1] if files else _File(0, 0)
        if not last.size or last.size + len(line) > self._max_bytes // FILES:
            last = _File(last.number + 1, 0)
        room = self._max_bytes - len(line) - 1
        while sum(file.size for file in files) > room:
            os.unlink(files.pop(0).name, dir_fd=folder)
        _append(folder, last.name, line)


def _list_files(folder: int) -> list[_File]:
    """The oldest first."""
    names = [(name, match) for name in os.listdir(folder) if (match := _NAME.fullmatch(name))]
    return sorted(
        _File(int(match[1]), os.stat(name, dir_fd=folder, follow_symlinks=False).st_size) for name, match in names
    )


def _append(folder: int, name: str, line: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        size = os.fstat(file).st_size
        # A process that was killed may have left half a line, which must not take this one with it.
        ended = not size or os.pread(file, 1, size - 1) == b"\n"
        try:
            _write_whole(file, line if ended else b"\n" + line)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def _write_whole(file: int, data: bytes) -> None:
    """Write in one go, so that a reader meets half of it at most while it is written."""
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

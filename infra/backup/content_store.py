"""Files by their content: `blobs/ab/abcdef...` holds the bytes whose SHA-256 that is, for all backups of a folder."""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from infra.backup.private_folder import ensure_private, require_no_link
from infra.command_errors import StackError

PIECE = 1 << 20  # bytes
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES}
_DIGEST = "^[0-9a-f]{64}$"
_UNFINISHED = "[0-9a-f]{32}"
Digest = Annotated[str, Field(pattern=_DIGEST)]


class Blob(BaseModel):
    """The SHA-256 of a file (hex), and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Digest
    size: int = Field(ge=0)


class Blobs:
    """The files of a backup folder; each appears whole or not at all, and only its owner reads it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "blobs"
        self._incoming = folder / "incoming"

    def prepare(self) -> None:
        """Make the folders, and remove what a backup that was killed has left half-written.

        Raises:
            StackError: One is a link, is somebody else's, or others may read it.
            OSError: One cannot be made.
        """
        for folder in (self._folder, self._incoming):
            ensure_private(folder)
        for left in self._incoming.iterdir():
            if re.fullmatch(_UNFINISHED, left.name):
                left.unlink()

    def add(self, pieces: Iterable[bytes]) -> Blob:
        """Keep bytes; nothing is written twice.

        Raises:
            StackError: The folder cannot be written to, such as a disk that is full, or has a link in it.
        """
        digest, size = hashlib.sha256(), 0
        unfinished = self._incoming / uuid4().hex
        try:
            with self._written(), os.fdopen(os.open(unfinished, _NEW, 0o600), "wb") as stream:
                for piece in pieces:
                    stream.write(piece)
                    digest.update(piece)
                    size += len(piece)
            blob = Blob(sha256=digest.hexdigest(), size=size)
            if not self.has(blob):
                path = self.path(blob)
                path.parent.mkdir(mode=0o700, exist_ok=True)
                require_no_link(path.parent)
                unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return blob

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _OF_DISKS:  # that of the network is another's
                raise
            raise StackError(
                f"Expected room for this backup in {self._folder.parent}, found {error.strerror}. Make room, or name "
                "another folder; what has been read is not read again."
            ) from error

    def add_file(self, stream: IO[bytes]) -> Blob:
        """Keep what a stream holds from here to its end."""
        return self.add(iter(lambda: stream.read(PIECE), b""))

    def path(self, blob: Blob) -> Path:
        """The file of a blob, which may be missing or damaged."""
        return self._folder / blob.sha256[:2] / blob.sha256

    def has(self, blob: Blob) -> bool:
        """Return whether a file of its size is there; `fault` reads it."""
        try:
            return self.path(blob).lstat().st_size == blob.size
        except FileNotFoundError:
            return False

    def fault(self, blob: Blob) -> str | None:
        """Read the whole file; return what is wrong with it, or None."""
        try:
            with self.path(blob).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return f"expected {self.path(blob)}, found {error.strerror}"
        if found != blob.sha256:
            return f"expected {self.path(blob)} to have its name as SHA-256, found {found}"
        return None

    def require(self, blob: Blob) -> Path:
        """Return the file, which was read and is sound.

        Raises:
            StackError: It is missing or damaged.
        """
        if fault := self.fault(blob):
            raise StackError(f"This backup is damaged: {fault}. Take another one, or a copy of this folder.")
        return self.path(blob)

    def digests(self) -> Iterator[str]:
        """Yield the SHA-256 of every file that is there; what a link leads to is not ours."""
        for folder in self._folder.glob("[0-9a-f][0-9a-f]"):
            if not folder.is_symlink():
                found = (path.name for path in folder.iterdir() if path.name.startswith(folder.name))
                yield from (name for name in found if re.match(_DIGEST, name))

    def remove(self, digest: str) -> int:
        """Remove a file that no backup needs; returns its size in bytes."""
        path = self._folder / digest[:2] / digest
        size = path.lstat().st_size
        path.unlink()
        return size

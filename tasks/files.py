"""Files: written whole or not at all, and compared by their SHA-256; and disks without room for them."""

import errno
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKE_ROOM = "Make room on this disk, or let STUDIO_SCRATCH_DIR name a folder on a larger one."
_FULL_BYTES = 16 << 20  # less is no room for weights


def is_full_disk(error: OSError) -> bool:
    """Return whether an error says that there is no room on a disk."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def is_on_full_disk(folder: Path) -> bool:
    """Return whether the disk of a folder has no room, for what is told by a program that does not say so itself."""
    return shutil.disk_usage(folder).free < _FULL_BYTES


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; the file gets its name at the end, or is removed if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

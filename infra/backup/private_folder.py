"""Folders that only we read, also below one that others write to."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from infra.command_errors import StackError


def ensure_private(folder: Path) -> None:
    """Make a folder that only we read; one that is there must be such a one already, and stays as it is.

    Raises:
        StackError: It is a link or no folder, is somebody else's, or others may read it.
        OSError: It cannot be made.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    require_no_link(folder)
    found = folder.lstat()
    if found.st_uid not in {os.geteuid(), _owner_of_what_we_make(folder)}:
        raise StackError(f"Expected {folder} to be yours, found one of user {found.st_uid}. Name another folder.")
    if found.st_mode & 0o077:
        raise StackError(
            f"Expected {folder} to be open to its owner alone, found mode {stat.S_IMODE(found.st_mode):04o}. "
            f"`chmod 700 {folder}` shuts it; if its disk keeps no modes, mount it for yourself alone (dir_mode=0700)."
        )


def require_no_link(folder: Path) -> None:
    """Check that a path leads to a folder, and to no other place.

    Raises:
        StackError: It does.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode):
        what = "a link" if folder.is_symlink() else "no folder"
        raise StackError(f"Expected a folder of backups at {folder}, found {what}. Name another folder.")


def _owner_of_what_we_make(folder: Path) -> int:
    """The user that our files have on this disk: a server may take root for nobody, or all for one."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_uid

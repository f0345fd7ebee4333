"""What a running stack has outside its state folder: sockets and temporary files in /tmp, and shared memory."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from infra.command_errors import StackError
from infra.ports import is_free
from infra.stack_settings import StackSettings

TEMPORARY = Path("/tmp")  # noqa: S108 - short, because the path of a socket may not exceed 107 bytes
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory lives on Linux


def temporary_folder(settings: StackSettings) -> Path:
    """A folder of this stack alone."""
    name = hashlib.sha256(bytes(settings.state_dir.resolve())).hexdigest()[:12]
    return TEMPORARY / f"yolo-studio-{os.geteuid()}-{name}"


def make_temporary_folder(settings: StackSettings) -> None:
    """Make it, for us alone. Raises StackError where somebody else was there first."""
    folder = temporary_folder(settings)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or folder.is_symlink() or not folder.is_dir():
        raise StackError(f"Expected {folder} to be a folder of ours, found somebody else's: remove it.")
    folder.chmod(0o700)


def remove_temporary(settings: StackSettings) -> None:
    """Remove all of it that is ours; the stack is down. What belongs to a port that is in use is another stack's."""
    shutil.rmtree(temporary_folder(settings), ignore_errors=True)
    left = list(_sockets(settings))
    if is_free(settings.triton_http_port):
        left += shared_memory(shared_memory_prefix(settings.triton_http_port))
    for path in left:
        with suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                path.unlink()


def shared_memory_prefix(http_port: int) -> str:
    """The name that a Triton's shared memory begins with.

    It follows the HTTP port, which only one server of a machine can have: two servers never share regions.
    """
    return f"yolo-studio-{http_port}-"


def shared_memory(prefix: str) -> Iterator[Path]:
    """What there is under the prefix."""
    return SHARED_MEMORY.glob(f"{prefix}*")


def _sockets(settings: StackSettings) -> Iterator[Path]:
    """SeaweedFS makes these, beside its ports, under names that cannot be changed."""
    for part in ("master", "volume", "filer", "s3"):
        port = 10_000 + (settings.s3_port if part == "s3" else getattr(settings, f"s3_{part}_port"))
        if is_free(port):
            yield TEMPORARY / f"seaweedfs-{part}-grpc-{port}.sock"

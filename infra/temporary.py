"""What lives no longer than a running stack: its sockets and temporary files in /tmp, and its shared memory."""

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
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the place of POSIX shared memory on Linux


def fresh_folder(path: Path) -> Path:
    """Return the folder, made anew: what a killed process left in it is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def temporary_folder(settings: StackSettings) -> Path:
    """The path of a folder of this stack alone."""
    name = hashlib.sha256(bytes(settings.state_dir.resolve())).hexdigest()[:12]
    return TEMPORARY / f"yolo-studio-{os.geteuid()}-{name}"


def make_temporary_folder(settings: StackSettings) -> None:
    """Make the temporary folder, for us alone.

    Raises:
        StackError: Somebody else has made it.
    """
    folder = temporary_folder(settings)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or folder.is_symlink() or not folder.is_dir():
        raise StackError(f"Expected {folder} to be a folder of ours, found somebody else's: remove it.")
    folder.chmod(0o700)


def remove_temporary(settings: StackSettings) -> None:
    """Remove all that is ours, after the stack is down; what belongs to a port in use is another stack's."""
    shutil.rmtree(temporary_folder(settings), ignore_errors=True)
    left = list(_sockets(settings))
    for target in settings.local_tritons:
        port = int(target.http.rpartition(":")[2])
        if is_free(port):
            left += shared_memory(port)
    for path in left:
        with suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                path.unlink()


def shared_memory_prefix(http_port: int) -> str:
    """What the names of a Triton's shared memory begin with: one server of a machine has its HTTP port."""
    return f"yolo-studio-{http_port}-"


def shared_memory(http_port: int) -> Iterator[Path]:
    """The shared memory of the Triton on this port."""
    return SHARED_MEMORY.glob(f"{shared_memory_prefix(http_port)}*")


def _sockets(settings: StackSettings) -> Iterator[Path]:
    """SeaweedFS makes these, beside its ports, under names that cannot be changed."""
    for part in ("master", "volume", "filer", "s3"):
        port = 10_000 + (settings.s3_port if part == "s3" else getattr(settings, f"s3_{part}_port"))
        if is_free(port):
            yield TEMPORARY / f"seaweedfs-{part}-grpc-{port}.sock"

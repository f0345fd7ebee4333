"""The files of the state folder: secrets, settings, results of Prefect's, Label Studio's projects, the live log."""

import contextlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra.backup.content_store import Blob, Blobs
from infra.backup.manifests import KeptFile
from infra.stack_settings import StackSettings
from tasks.files import write_atomically

# What the databases and buckets hold, what each start makes anew, what is of this machine alone, and what is a cache.
LEFT = frozenset(
    (
        "stack-id",
        *("postgres", "postgres.partial", "s3", "weed", "s3.json", "services", "supervisord.conf", "supervisord.pid"),
        *("logs", "scratch", "ultralytics", "env", "registered.json", "mlflow-users.ini", "restoring", "layout.json"),
        *("rotation.json", "rotation.lock", "last-backup.json"),
    )
)
_OF_TRITON = "triton-"
_SQLITE = b"SQLite format 3\0"
_SQLITE_BESIDE = ("-wal", "-shm", "-journal")


def take(settings: StackSettings, blobs: Blobs) -> tuple[list[KeptFile], list[str]]:
    """Keep the files of the state folder; returns them, and what was left out because it is no plain file.

    Raises:
        StackError: The backup's folder cannot be written to.
    """
    kept, left_out = [], []
    for path in sorted(_files(settings.state_dir)):
        name = path.relative_to(settings.state_dir).as_posix()
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            if not stat.S_ISSOCK(mode) and not stat.S_ISFIFO(mode):
                left_out.append(name)
            continue
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:  # a log may have gone meanwhile
            start = stream.read(len(_SQLITE))
            stream.seek(0)
            blob = _copy_of_database(path, blobs) if start == _SQLITE else None
            kept.append(KeptFile(path=name, blob=blob or blobs.add_file(stream)))
    return kept, left_out


def _files(state: Path) -> Iterator[Path]:
    for entry in state.iterdir():
        if (
            entry.name in LEFT
            or entry.name.startswith(_OF_TRITON)
            or (entry.name.startswith(".") and entry.name.endswith(".part"))
        ):
            continue
        if not entry.is_dir() or entry.is_symlink():
            yield entry
            continue
        for folder, folders, names in os.walk(entry):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            yield from (Path(folder, name) for name in [*names, *links] if not name.endswith(_SQLITE_BESIDE))


def _copy_of_database(path: Path, blobs: Blobs) -> Blob:
    """A copy of an SQLite file as one transaction sees it, while others write to it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        with (
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        with copy.open("rb") as stream:
            return blobs.add_file(stream)


def restore(settings: StackSettings, blobs: Blobs, files: list[KeptFile]) -> None:
    """Write the files back, for their owner alone; those that are there stay, such as secrets of this machine.

    Raises:
        StackError: A file of the backup is missing or damaged.
    """
    for kept in files:
        path = settings.state_dir / kept.path
        if path.exists():
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with write_atomically(path) as unfinished:
            unfinished.touch(mode=0o600)
            unfinished.write_bytes(blobs.require(kept.blob).read_bytes())

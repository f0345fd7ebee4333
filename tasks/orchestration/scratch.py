"""Folders that live as long as a run."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.settings import Settings

_OWNED = ".owned"  # locked by the process that made the folder, for as long as it lives


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield a fresh folder under `Settings.studio_scratch_dir`, removed at the end; those of killed runs go first."""
    parent = Settings().studio_scratch_dir
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"studio-{purpose}-", dir=parent))
    try:
        with (folder / "owner").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "owner").rename(folder / _OWNED)  # others find it only now
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def list_abandoned() -> list[Path]:
    """Return the scratch folders on this machine that no process owns.

    That may be one that is just being made: how old it is says whether.
    """
    return [folder for folder in sorted(Settings().studio_scratch_dir.glob("studio-*")) if _is_abandoned(folder)]


def remove_abandoned(folder: Path) -> None:
    """Remove a scratch folder if still no process owns it."""
    if _is_abandoned(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _OWNED).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return folder.is_dir() and not folder.is_symlink()
    except OSError:
        return False
    return True


def _remove_abandoned(parent: Path) -> None:
    """Remove folders whose owner is gone; a folder that is just being made has no such file yet."""
    for owned in parent.glob(f"studio-*/{_OWNED}"):
        with contextlib.suppress(OSError), owned.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(owned.parent, ignore_errors=True)

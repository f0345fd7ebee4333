"""Folders that live as long as a run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.settings import Settings


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A fresh folder under `Settings.studio_scratch_dir`, removed at the end whatever happened."""
    parent = Settings().studio_scratch_dir
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"studio-{purpose}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""Images that are fetched for a selection, and a disk that has no room for them."""

from pathlib import Path

import pytest

from tasks.selection import steps
from tasks.storage.s3_client import StorageError
from tests.tasks.selection.test_session import Store, source


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(steps, "MediaStore", Store)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match=r"found \[Errno 28\] No space left on device. Make room on this disk"):
        steps.fetch_images.fn([source("a.png")], tmp_path)

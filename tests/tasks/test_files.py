"""Disks that have no room."""

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.files import is_full_disk, is_on_full_disk


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_an_error_for_want_of_room_is_told_from_others(number: int, full: bool) -> None:
    assert is_full_disk(OSError(number, "x")) is full


@pytest.mark.parametrize(("free", "full"), [(0, True), (5 << 20, True), (1 << 30, False)])
def test_a_disk_without_room_for_weights_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, full: bool
) -> None:
    """A stand-in of the disk, as the test may fill none."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert is_on_full_disk(tmp_path) is full

"""`make chaos`: the disk of the backups is full."""

import contextlib
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.backup.manifests import BackupFolder
from tests.another_stack import another_stack, studio
from tests.infra.backup.test_restoring import RELEASE, TAKE

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a disk of this size over a folder; skips the test where we may not."""
    folder.mkdir(exist_ok=True)
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("only root mounts a disk")
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def test_a_backup_onto_a_full_disk_says_so_and_is_whole_when_there_is_room(tmp_path: Path) -> None:
    with tarfile.open(RELEASE) as tar:
        tar.extractall(tmp_path, filter="data")
    disk = tmp_path / "disk"
    backups = BackupFolder(disk / "backups")
    with another_stack(tmp_path / "state") as environment, small_disk(disk, "6m"):
        studio(environment, "restore", str(tmp_path / "backup"))
        command = [sys.executable, "-c", TAKE, str(backups.folder)]
        failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert failed.returncode == 1
        assert "Expected room for this backup" in failed.stderr
        assert "No space left on device. Make room, or name another folder" in failed.stderr
        assert backups.names() == []
        subprocess.run(["/bin/mount", "-o", "remount,size=100m", str(disk)], check=True)
        subprocess.run(command, env=environment, check=True)
        _, manifest = backups.read()
        assert [*backups.verify(manifest)] == []
    print("backup | its disk full | says so; whole when there was room", flush=True)

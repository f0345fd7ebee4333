"""A restore: into nothing alone, whole or none, and what comes of it is what was backed up."""

import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import layout
from infra.backup import last_backup
from infra.backup.manifests import BackupFolder, Manifest
from tests.another_stack import another_stack, run_studio
from tests.paths import ROOT

RELEASE = ROOT / "tests" / "stacks" / "release-0.1.0.tar.xz"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    with tarfile.open(RELEASE) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "backup"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with another_stack(tmp_path / "state") as values:
        yield values


def test_a_restore_writes_over_no_stack(environment: dict[str, str], backups: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "s3").mkdir(parents=True)
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    assert "found the data of one, over which nothing is written. Move it away" in " ".join(refused.stderr.split())
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["s3"]


def test_a_backup_of_a_newer_release_is_refused(environment: dict[str, str], backups: Path, tmp_path: Path) -> None:
    (path,) = (backups / "backups").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout": layout.LAYOUT + 1, "release": "9.0.0"}))
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    assert "found that release 9.0.0 has made it" in " ".join(refused.stderr.split())
    assert not (tmp_path / "state" / "secrets.json").exists()


def content(folder: Path, manifest: Manifest) -> list[tuple[object, ...]]:
    """All of an object but its date and the id of its version."""
    return sorted(
        (each.bucket, each.key, each.version is None, each.etag, each.sha256, each.content_type, str(each.metadata))
        for each in BackupFolder(folder).objects(manifest)
        if each.key != "locks/conditional-write-probe"
    )


TAKE = """
import sys
from pathlib import Path
from infra.backup.data_services import data_services
from infra.backup.taking import take
from infra.stack_settings import StackSettings
settings = StackSettings.load()
with data_services(settings):
    take(settings, Path(sys.argv[1]), print, at_work=False)
"""


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_a_restore_killed_at_any_moment_begins_anew_and_ends_as_it_was(
    environment: dict[str, str], backups: Path, tmp_path: Path
) -> None:
    """With secrets of this machine, which stay."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "secrets.json").write_text(json.dumps({"postgres": "of this machine"}))
    command = [sys.executable, "-m", "studio", "restore", str(backups)]
    for lines in (1, 2, 4):  # after the manifest, a database, some objects
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        assert (state / layout.RESTORING).exists()
        refused = run_studio(environment, "up")
        assert "a restore that was cut short" in " ".join(refused.stderr.split())
        print(f"restore | killed after line {lines}", flush=True)
    done = run_studio(environment, "restore", str(backups))
    assert done.returncode == 0, done.stderr
    assert not (state / layout.RESTORING).exists()
    assert json.loads((state / last_backup.FILE).read_bytes())["folder"] == str(backups)
    assert json.loads((state / "secrets.json").read_text())["postgres"] == "of this machine"

    again = tmp_path / "again"
    subprocess.run([sys.executable, "-c", TAKE, str(again)], env=environment, check=True)
    _, first = BackupFolder(backups).read()
    _, second = BackupFolder(again).read()
    assert content(again, second) == content(backups, first)
    assert (second.layout, second.release) == (1, "0.1.0")
    for name, blob in first.databases.items():
        assert abs(second.databases[name].size - blob.size) < blob.size * 0.05

"""A backup of a stack at work: whole, quick the second time, and beside nothing that changes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from prefect import flow

from infra.backup import last_backup
from infra.backup.last_backup import LastBackup
from infra.backup.manifests import BackupFolder, Manifest, ObjectEntry
from infra.backup.taking import take
from infra.command_errors import StackError
from infra.stack_settings import StackSettings
from tasks.storage import fence
from tasks.storage.fence import announced_change
from tasks.storage.object_names import CHANGES, FENCE
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError
from tests.waiting import eventually

MIB = 1 << 20


def quietly(_: str) -> None:
    """What a backup tells is not looked at."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


def by_key(folder: Path, manifest: Manifest) -> dict[str, list[ObjectEntry]]:
    found: dict[str, list[ObjectEntry]] = {}
    for entry in BackupFolder(folder).objects(manifest):
        found.setdefault(f"{entry.bucket}/{entry.key}", []).append(entry)
    return found


def body(folder: Path, entry: ObjectEntry) -> bytes:
    assert entry.blob is not None
    return BackupFolder(folder).blobs.require(entry.blob).read_bytes()


def test_a_backup_has_databases_objects_versions_and_files_and_the_next_reads_what_is_new(
    stack: StackSettings, folder: Path
) -> None:
    s3, name = boto3.client("s3"), f"backup-{uuid4().hex[:8]}"
    for text in (b"first", b"second"):
        s3.put_object(Bucket="datasets", Key=f"{name}.zip", Body=text, ContentType="application/zip")
    s3.delete_object(Bucket="datasets", Key=f"{name}.zip")
    s3.put_object(Bucket="media", Key=f"{name}/ä b+c%2F.jpg", Body=b"picture", Metadata={"writer": "x"})
    project = stack.state_dir / "label-studio" / "projects.sqlite3"
    project.parent.mkdir(mode=0o700, exist_ok=True)
    with sqlite3.connect(project) as database:
        database.execute("CREATE TABLE IF NOT EXISTS tasks (id INTEGER)")
        database.execute("INSERT INTO tasks VALUES (7)")
    database.close()

    name_of_it, manifest = take(stack, folder, quietly)
    assert last_backup.read(stack) == LastBackup(name=name_of_it, folder=str(folder), taken=manifest.taken)
    assert {*manifest.databases} >= {"prefect", "mlflow"}
    assert {"secrets.json", "settings.env", "label-studio/projects.sqlite3"} <= {kept.path for kept in manifest.files}
    assert not [kept.path for kept in manifest.files if kept.path.startswith(("postgres", "s3", "logs", "env"))]
    assert manifest.left_out == []
    assert [*BackupFolder(folder).verify(manifest)] == []
    found = by_key(folder, manifest)
    first, second, marker = found[f"datasets/{name}.zip"]
    assert (body(folder, first), body(folder, second), marker.is_marker) == (b"first", b"second", True)
    assert first.content_type == "application/zip"
    (picture,) = found[f"media/{name}/ä b+c%2F.jpg"]
    assert (body(folder, picture), picture.metadata) == (b"picture", {"writer": "x"})
    (kept,) = (kept for kept in manifest.files if kept.path == "label-studio/projects.sqlite3")
    with sqlite3.connect(BackupFolder(folder).blobs.require(kept.blob)) as database:
        assert database.execute("SELECT id FROM tasks").fetchall() == [(7,)]
    database.close()

    s3.put_object(Bucket="media", Key=f"{name}/new.jpg", Body=b"new")
    said: list[str] = []
    _, manifest = take(stack, folder, said.append)
    assert by_key(folder, manifest).keys() - found.keys() >= {f"media/{name}/new.jpg"}
    looks = [line for line in said if line.startswith("  objects")]
    assert "; read 0 " not in looks[0]
    read = int(looks[0].partition("; read ")[2].split()[0])
    assert read < 10 < manifest.objects + 10  # the rest is known
    assert [*BackupFolder(folder).verify(manifest)] == []


def test_a_backup_inside_the_state_folder_is_refused(stack: StackSettings) -> None:
    before = last_backup.read(stack)
    with pytest.raises(StackError, match="belongs on another disk"):
        take(stack, stack.state_dir / "backups", quietly)
    assert last_backup.read(stack) == before


@flow
def removal(key: str, may_begin: threading.Event) -> None:
    """A flow that removes an object, as a person sees it in Prefect."""
    from tasks.orchestration.current_run import flow_run_id

    may_begin.wait(30)
    with announced_change(flow_run_id()):
        ObjectStore("media").delete(key)


def test_what_is_removed_waits_for_a_backup(stack: StackSettings) -> None:  # noqa: ARG001
    store, key = ObjectStore("media"), f"fenced-{uuid4().hex[:8]}"
    store.put(key, b"x")
    with fence.fence(lambda _: False, 10) as require_unbroken:
        thread = threading.Thread(target=removal, args=(key, may_begin := threading.Event()))
        may_begin.set()
        thread.start()
        time.sleep(4)
        assert store.exists(key)
        require_unbroken()
    thread.join(30)
    assert not store.exists(key)
    assert not [*ObjectStore("runs").keys(CHANGES)]


def test_a_backup_waits_for_what_is_under_way_and_lets_others_begin_meanwhile(stack: StackSettings) -> None:  # noqa: ARG001
    runs = ObjectStore("runs")
    runs.put(f"{CHANGES}at-work", b"")
    with pytest.raises(StorageError, match="found flow run at-work"), fence.fence(lambda _: True, 3):
        pytest.fail("it was put up")
    assert not runs.exists(FENCE)
    with fence.fence(lambda run: run != "at-work", 3):
        pass  # a run that has ended holds nothing
    runs.delete(f"{CHANGES}at-work")


def test_the_fence_of_a_backup_that_was_killed_falls(
    stack: StackSettings,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fence, "TTL_S", 3.0)
    store, key = ObjectStore("media"), f"fenced-{uuid4().hex[:8]}"
    store.put(key, b"x")
    ObjectStore("runs").put(FENCE, b"")
    may_begin = threading.Event()
    may_begin.set()
    began = time.monotonic()
    removal(key, may_begin)
    assert 2 < time.monotonic() - began < 20
    assert not store.exists(key)


@pytest.mark.heavy
def test_a_backup_killed_at_any_moment_is_none_or_whole_and_the_next_one_is_whole(
    stack: StackSettings, tmp_path: Path
) -> None:
    """Each time a little later in its course, with new objects to keep."""
    folder, store = BackupFolder(tmp_path / "backups"), ObjectStore("runs")
    command = [sys.executable, "-m", "studio", "backup", str(folder.folder)]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - began
    before = folder.names()
    for share in (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95):
        for number in range(20):
            boto3.client("s3").put_object(Bucket="media", Key=f"killed/{share}/{number}", Body=os.urandom(MIB))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(whole * share)
            process.send_signal(signal.SIGKILL)
        store.delete(FENCE)  # the next one would be killed while it waits for that
        for name in folder.names():
            assert [*folder.verify(folder.read(name)[1])] == []
        print(f"backup | killed after {whole * share:.1f} s | {len(folder.names()) - len(before)} more", flush=True)
    _, manifest = take(stack, folder.folder, quietly)
    assert [*folder.verify(manifest)] == []
    assert not store.exists(FENCE)
    eventually(lambda: not [*(folder.root / "incoming").iterdir()], "what was half-written is gone", 5)
    keys = {entry.key for entry in folder.objects(manifest)}
    assert {f"killed/{share}/{number}" for share in (0.3, 0.95) for number in range(20)} <= keys

"""A folder of backups: nothing half-written counts, files are shared, and what comes from outside is checked."""

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.backup.content_store import Blobs
from infra.backup.manifests import FORMAT, BackupFolder, KeptFile, Manifest, ObjectEntry
from infra.command_errors import StackError


@pytest.fixture
def folder(tmp_path: Path) -> BackupFolder:
    return BackupFolder(tmp_path / "backups")


def entry(folder: BackupFolder, key: str, body: bytes) -> ObjectEntry:
    blob = folder.blobs.add([body])
    return ObjectEntry("media", key, None, '"etag"', len(body), "2026-01-01", blob.sha256, "", {})


def write(folder: BackupFolder, *bodies: bytes) -> str:
    with folder.written():
        entries = [entry(folder, f"{number}", body) for number, body in enumerate(bodies)]
        return folder.write(manifest(folder, entries))


def manifest(folder: BackupFolder, entries: list[ObjectEntry]) -> Manifest:
    return Manifest(
        format=FORMAT,
        layout=1,
        release="0.0.1",
        servers={},
        taken=folder.free_moment(),
        databases={"mlflow": folder.blobs.add([b"dump"])},
        files=[KeptFile(path="secrets.json", blob=folder.blobs.add([b"{}"]))],
        buckets=["media"],
        versioned=[],
        objects=len(entries),
        size=sum(each.size for each in entries),
        index=folder.write_index(entries),
        left_out=[],
    )


def change(folder: BackupFolder, name: str, **values: object) -> None:
    path = folder.folder / "backups" / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_backup_is_read_as_it_was_written_and_the_newest_comes_first(folder: BackupFolder) -> None:
    first, second = write(folder, b"a"), write(folder, b"b", b"c")
    assert folder.names() == [first, second]
    name, read = folder.read()
    assert name == second
    assert [each.key for each in folder.objects(read)] == ["0", "1"]
    assert folder.read(first)[1].objects == 1


def test_backups_share_their_files_and_nobody_else_reads_them(folder: BackupFolder) -> None:
    write(folder, b"same")
    before = {*folder.blobs.digests()}
    name = write(folder, b"same")
    assert {*folder.blobs.digests()} == before  # the list of objects is the same, too
    assert [*folder.verify(folder.read(name)[1])] == []
    modes = {path.stat().st_mode & 0o077 for path in folder.folder.rglob("*") if path.name != "lock"}
    assert modes | {folder.folder.stat().st_mode & 0o077} == {0}


def test_a_damaged_and_a_missing_file_are_named(folder: BackupFolder) -> None:
    name = write(folder, b"one", b"two")
    _, read = folder.read(name)
    one, two = (folder.blobs.path(each.blob) for each in folder.objects(read) if each.blob)
    one.write_bytes(b"on3")
    two.unlink()
    faults = [*folder.verify(read)]
    assert len(faults) == 2
    assert f"{one} to have its name as SHA-256" in faults[0]
    assert f"{two}, found No such file" in faults[1]
    with pytest.raises(StackError, match="This backup is damaged"):
        folder.blobs.require(next(each.blob for each in folder.objects(read) if each.blob))


def test_a_damaged_list_of_objects_is_an_error(folder: BackupFolder) -> None:
    _, read = folder.read(write(folder, b"one"))
    folder.blobs.path(read.index).write_bytes(b"x" * read.index.size)
    with pytest.raises(StackError, match="This backup is damaged"):
        [*folder.verify(read)]


def test_a_backup_that_was_killed_is_none_and_what_it_left_goes(folder: BackupFolder) -> None:
    script = """
import os, pathlib, signal, sys
from infra.backup.content_store import Blobs
blobs = Blobs(pathlib.Path(sys.argv[1])); blobs.prepare()
blobs.add([b"whole"])
def pieces():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)
blobs.add(pieces())
"""
    folder.folder.mkdir()
    assert subprocess.run([sys.executable, "-c", script, str(folder.folder)], check=False).returncode == -9
    assert len([*(folder.folder / "incoming").iterdir()]) == 1
    assert folder.names() == []
    with pytest.raises(StackError, match=r"Expected a backup in .*, found none"):
        folder.read()
    name = write(folder, b"whole")
    assert [*(folder.folder / "incoming").iterdir()] == []
    assert [*folder.verify(folder.read(name)[1])] == []


def test_two_do_not_write_to_one_folder_at_a_time(folder: BackupFolder) -> None:
    with folder.written(), pytest.raises(StackError, match="Another backup is being taken"), folder.written():
        pytest.fail("it was let in")


def test_the_oldest_go_with_the_files_that_no_other_needs(folder: BackupFolder) -> None:
    first, second, third = write(folder, b"old", b"kept"), write(folder, b"kept"), write(folder, b"new")
    removed, freed = folder.keep_newest(2)
    assert (removed, folder.names()) == ([first], [second, third])
    assert freed > 0
    assert [fault for name in folder.names() for fault in folder.verify(folder.read(name)[1])] == []
    old = Blobs(folder.folder).add([b"old"])  # made anew now: it had gone
    folder.keep_newest(2)
    assert not folder.blobs.has(old)


def test_nothing_is_removed_while_a_backup_is_taken(folder: BackupFolder) -> None:
    first, second = write(folder, b"old"), write(folder, b"new")
    with folder.written(), pytest.raises(StackError, match="Another backup is being taken"):
        folder.keep_newest(1)
    assert folder.names() == [first, second]


@pytest.mark.parametrize("path", ["../secrets.json", "/etc/passwd", "a/../../b", "", "./a", "a\0b"])
def test_a_file_outside_the_state_folder_is_refused(folder: BackupFolder, path: str) -> None:
    name = write(folder, b"x")
    change(folder, name, files=[{"path": path, "blob": {"sha256": "0" * 64, "size": 1}}])
    with pytest.raises(StackError, match=r"found in .* what is none"):
        folder.read(name)


@pytest.mark.parametrize(
    "values",
    [
        {"index": {"sha256": "../../../etc/passwd", "size": 1}},
        {"databases": {"mlflow; DROP DATABASE prefect": {"sha256": "0" * 64, "size": 1}}},
        {"buckets": ["../runs"]},
        {"layout": 0},
    ],
)
def test_a_hostile_manifest_is_refused(folder: BackupFolder, values: dict[str, object]) -> None:
    name = write(folder, b"x")
    change(folder, name, **values)
    with pytest.raises(StackError, match=r"found in .* what is none"):
        folder.read(name)


def test_a_backup_of_a_newer_form_says_which_release_made_it(folder: BackupFolder) -> None:
    name = write(folder, b"x")
    change(folder, name, format=FORMAT + 1, release="9.0.0", more="fields")
    with pytest.raises(StackError, match=r"found 2 in .*release '9\.0\.0' has made"):
        folder.read(name)


def test_what_does_not_fit_on_the_disk_is_told(folder: BackupFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk is filled here: the kernel's answer is made up. tests/chaos fills one."""
    folder.blobs.prepare()

    def full(*_: object) -> object:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StackError, match=r"Expected room for this backup .* No space left"):
        folder.blobs.add_file(io.BytesIO(b"x"))


def test_moments_of_one_second_have_names_of_their_own(folder: BackupFolder) -> None:
    names = [write(folder, b"x") for _ in range(3)]
    assert len({*names}) == 3
    assert folder.free_moment() > datetime.strptime(names[-1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

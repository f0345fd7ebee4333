"""A folder of backups: nothing half-written counts, files are shared, and what comes from outside is checked."""

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.backup.content_store import Blobs
from infra.backup.manifests import FORMAT, BackupFolder, KeptFile, Manifest, ObjectEntry
from infra.backup.stack_id import ensure_stack_id, find_stack_id
from infra.command_errors import StackError
from infra.stack_settings import StackSettings
from tests.infra.backup.test_restoring import RELEASE

OURS, OTHER = "a" * 32, "b" * 32
TO_COME = datetime(2099, 12, 31, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> BackupFolder:
    return BackupFolder(tmp_path / "backups")


def entry(folder: BackupFolder, key: str, body: bytes) -> ObjectEntry:
    blob = folder.blobs.add([body])
    return ObjectEntry("media", key, None, '"etag"', len(body), "2026-01-01", blob.sha256, "", {})


def write(folder: BackupFolder, *bodies: bytes, stack: str | None = OURS, taken: datetime | None = None) -> str:
    with folder.written():
        entries = [entry(folder, f"{number}", body) for number, body in enumerate(bodies)]
        return folder.write(manifest(folder, entries, stack, taken))


def manifest(
    folder: BackupFolder, entries: list[ObjectEntry], stack: str | None, taken: datetime | None = None
) -> Manifest:
    return Manifest(
        format=FORMAT,
        stack=stack,
        layout=1,
        release="0.0.1",
        servers={},
        taken=taken or datetime.now(UTC),
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
    path = folder.root / "backups" / f"{name}.json"
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
    assert {path.stat().st_mode & 0o077 for path in (folder.folder, *folder.folder.rglob("*"))} == {0}


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
    folder.root.mkdir(mode=0o700, parents=True)
    assert subprocess.run([sys.executable, "-c", script, str(folder.root)], check=False).returncode == -9
    assert len([*(folder.root / "incoming").iterdir()]) == 1
    assert folder.names() == []
    with pytest.raises(StackError, match=r"Expected a backup in .*, found none"):
        folder.read()
    name = write(folder, b"whole")
    assert [*(folder.root / "incoming").iterdir()] == []
    assert [*folder.verify(folder.read(name)[1])] == []


def test_two_do_not_write_to_one_folder_at_a_time(folder: BackupFolder) -> None:
    with folder.written(), pytest.raises(StackError, match="Another backup is being taken"), folder.written():
        pytest.fail("it was let in")


def test_the_oldest_go_with_the_files_that_no_other_needs(folder: BackupFolder) -> None:
    first, second, third = write(folder, b"old", b"kept"), write(folder, b"kept"), write(folder, b"new")
    pruned = folder.keep_newest(2, OURS)
    assert (pruned.removed, folder.names()) == ([first], [second, third])
    assert pruned.freed > 0
    assert [fault for name in folder.names() for fault in folder.verify(folder.read(name)[1])] == []
    old = Blobs(folder.root).add([b"old"])  # made anew now: it had gone
    folder.keep_newest(2, OURS)
    assert not folder.blobs.has(old)


def test_nothing_is_removed_while_a_backup_is_taken(folder: BackupFolder) -> None:
    first, second = write(folder, b"old"), write(folder, b"new")
    with folder.written(), pytest.raises(StackError, match="Another backup is being taken"):
        folder.keep_newest(1, OURS)
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
    with pytest.raises(StackError, match=rf"found {FORMAT + 1} in .*release '9\.0\.0' has made"):
        folder.read(name)


def test_what_does_not_fit_on_the_disk_is_told(folder: BackupFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk is filled here: the kernel's answer is made up. tests/chaos fills one."""
    folder.root.mkdir(mode=0o700, parents=True)
    folder.blobs.prepare()

    def full(*_: object) -> object:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StackError, match=r"Expected room for this backup .* No space left"):
        folder.blobs.add_file(io.BytesIO(b"x"))


def test_those_of_one_second_have_names_of_their_own_and_say_when_they_were_taken(folder: BackupFolder) -> None:
    taken = datetime(2026, 11, 30, 22, 43, 59, 700_000, tzinfo=UTC)
    names = [write(folder, b"x", taken=taken) for _ in range(3)]
    assert names == ["20261130T224359Z", "20261130T224400Z", "20261130T224401Z"]
    assert {folder.read(name)[1].taken for name in names} == {taken}
    assert folder.names() == names


def damaged(folder: BackupFolder) -> None:
    with folder.written():
        (folder.root / "backups" / "20991231T000000Z.json").write_text("{")


@pytest.mark.parametrize(
    "leave",
    [
        damaged,
        lambda folder: write(folder, b"theirs", stack=OTHER, taken=TO_COME),
        lambda folder: write(folder, b"ours", taken=TO_COME),
    ],
    ids=["damaged", "of another stack", "of a clock that was wrong"],
)
def test_what_is_named_by_a_time_to_come_is_the_oldest_and_moves_no_other(
    folder: BackupFolder, leave: Callable[[BackupFolder], object]
) -> None:
    leave(folder)
    before = datetime.now(UTC)
    first, second = write(folder, b"1"), write(folder, b"2")
    assert folder.names() == ["20991231T000000Z", first, second]
    name, newest = folder.read()
    assert name == second
    assert before <= newest.taken <= datetime.now(UTC)
    assert folder.newest_of_each_stack()[OURS] == second


def test_of_those_to_keep_one_of_a_time_to_come_is_none(folder: BackupFolder) -> None:
    wrong, first, second = write(folder, b"0", taken=TO_COME), write(folder, b"1"), write(folder, b"2")
    assert folder.keep_newest(2, OURS).removed == [wrong]
    assert folder.names() == [first, second]


def test_those_of_other_stacks_and_of_none_stay(folder: BackupFolder) -> None:
    unknown, theirs = write(folder, b"1", stack=None), write(folder, b"2", stack=OTHER)
    first, second = write(folder, b"3"), write(folder, b"4")
    pruned = folder.keep_newest(1, OURS)
    assert (pruned.removed, pruned.others) == ([first], 2)
    assert folder.names() == [unknown, theirs, second]
    assert [fault for name in folder.names() for fault in folder.verify(folder.read(name)[1])] == []
    assert folder.newest_of_each_stack() == {OTHER: theirs, OURS: second}


def test_a_stack_has_one_id_from_its_first_backup_on(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path)
    assert find_stack_id(settings) is None
    made = ensure_stack_id(settings)
    assert ensure_stack_id(settings) == find_stack_id(settings) == made
    (tmp_path / "stack-id").write_text("../..")
    with pytest.raises(StackError, match="Expected 32 hex digits"):
        ensure_stack_id(settings)


def test_backups_of_a_folder_of_earlier_releases_stay_where_they_are_and_more_come_there(tmp_path: Path) -> None:
    with tarfile.open(RELEASE) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = BackupFolder(tmp_path / "backup")
    assert folder.root == folder.folder
    (name,) = folder.names()
    _, read = folder.read()
    assert (read.format, read.stack) == (1, None)
    assert [*folder.verify(read)] == []
    for path in folder.root.iterdir():  # as a backup has made them
        path.chmod(0o700)
    second = write(folder, b"new")
    assert folder.keep_newest(1, OURS).others == 1
    assert BackupFolder(folder.folder).names() == [name, second]
    assert [*folder.verify(read)] == []


def test_a_folder_that_others_use_keeps_its_mode_and_the_backup_in_it_is_private(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "backups").mkdir()  # of somebody else
    folder = BackupFolder(shared)
    name = write(folder, b"x")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert folder.root.parent == shared
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert [*(shared / "backups").iterdir()] == []
    assert BackupFolder(shared).names() == BackupFolder(folder.root).names() == [name]


@pytest.mark.parametrize("place", ["", "incoming", "blobs", "backups"])
def test_a_link_in_the_place_of_a_folder_is_refused_and_nothing_behind_it_goes(tmp_path: Path, place: str) -> None:
    victim = tmp_path / "victim"
    (victim / "ab").mkdir(parents=True)
    victim.chmod(0o700)
    kept = [victim / ("c" * 32), victim / "ab" / ("ab" * 32)]
    for path in kept:
        path.write_text("of somebody else")
    folder = BackupFolder(tmp_path / "backups")
    (folder.root / place).parent.mkdir(mode=0o700, parents=True)
    (folder.root / place).symlink_to(victim)
    with pytest.raises(StackError, match=r"Expected a folder of backups at .*, found a link"):
        write(folder, b"x")
    assert [path for path in kept if not path.exists()] == []


def test_a_lock_that_is_a_link_makes_no_file_elsewhere(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path / "backups")
    folder.root.mkdir(mode=0o700, parents=True)
    (folder.root / "lock").symlink_to(tmp_path / "made")
    with pytest.raises(StackError, match="Expected a folder for backups"):
        write(folder, b"x")
    assert not (tmp_path / "made").exists()


def test_files_behind_a_link_among_the_files_stay_and_none_comes_there(folder: BackupFolder, tmp_path: Path) -> None:
    write(folder, b"1")
    blob = folder.blobs.add([b"to be linked"])
    place = folder.blobs.path(blob).parent
    victim = tmp_path / "victim"
    place.rename(victim)
    (victim / (place.name + "e" * 62)).touch()
    place.symlink_to(victim)
    before = {*victim.iterdir()}
    (victim / blob.sha256).unlink()
    with pytest.raises(StackError, match="found a link"):
        folder.blobs.add([b"to be linked"])
    folder.keep_newest(1, OURS)
    assert before - {*victim.iterdir()} == {victim / blob.sha256}


@pytest.mark.parametrize("place", ["", "incoming", "blobs", "backups"])
def test_a_folder_that_others_read_or_own_is_refused_as_it_is(folder: BackupFolder, place: str) -> None:
    write(folder, b"x")
    path = folder.root / place
    path.chmod(0o755)
    with pytest.raises(StackError, match=r"open to its owner alone, found mode 0755. `chmod 700"):
        write(folder, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    if os.geteuid() == 0:  # only root gives a folder away
        path.chmod(0o700)
        os.chown(path, 12345, 12345)
        with pytest.raises(StackError, match="to be yours, found one of user 12345"):
            write(folder, b"x")


@pytest.mark.parametrize("name", ["README", "20260101", "2026011T010101Z", "99999999T999999Z", "20260101T010101Z.old"])
def test_a_file_that_is_named_otherwise_is_no_backup(folder: BackupFolder, name: str) -> None:
    written = write(folder, b"x")
    (folder.root / "backups" / f"{name}.json").write_text("{}")
    assert folder.names() == [written]
    assert folder.read()[0] == written
    assert write(folder, b"y") > written


def test_a_manifest_under_another_name_is_refused(folder: BackupFolder) -> None:
    name = write(folder, b"x")
    path = folder.root / "backups" / f"{name}.json"
    path.rename(path.with_name("20260101T000000Z.json"))
    with pytest.raises(StackError, match=r"what is none: it was taken at"):
        folder.read()

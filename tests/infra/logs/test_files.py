"""Blocks of log files: whole lines from either end, whatever their length."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.logs import files
from infra.logs.files import LONGEST_LINE, LogFile, list_services, open_logs
from tests.infra.logs.log_folder import write

rows = st.lists(st.binary(max_size=40).map(lambda row: row.replace(b"\n", b"")), max_size=20)


def forwards(path: Path) -> list[bytes]:
    log = LogFile.open(path)
    read = [row for block in log.forwards() for row in block.data.split(b"\n")]
    log.close()
    return read


def backwards(path: Path) -> list[bytes]:
    log = LogFile.open(path)
    blocks = list(log.backwards(log.size))
    data = path.read_bytes()
    assert all(start == 0 or data[start - 1 : start] == b"\n" for start, _ in blocks)
    log.close()
    return [row for block in reversed(blocks) for row in block.data.split(b"\n")]


@given(rows=rows, block=st.integers(1, 60), longest=st.integers(1, 30), ends=st.booleans())
def test_each_row_is_read_once_from_either_end(
    rows: list[bytes], block: int, longest: int, ends: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "a.log"
    path.write_bytes(b"\n".join(rows) + (b"\n" if ends and rows else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        patch.setattr(files, "PAGE_BLOCK", block)
        patch.setattr(files, "LONGEST_LINE", longest)
        whole = path.read_bytes().removesuffix(b"\n").split(b"\n") if path.stat().st_size else []
        expected = [row[:longest] for row in whole]
        for read in (forwards(path), backwards(path)):
            assert [row[:longest] for row in read] == expected
            assert all(len(row) <= block + longest + 40 for row in read)


def test_a_row_of_10_mb_is_its_beginning_and_says_how_much_more_there_was(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", "before", "x" * 10_000_000, "after")
    for read in (forwards(path), backwards(path)):
        assert read[::2] == [b"before", b"after"]
        assert read[1] == b"x" * LONGEST_LINE + b" ... 9,934,464 bytes more"


def test_a_file_that_is_renamed_while_files_are_opened_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.log", "new")
    write(tmp_path / "a.log.1", "old")
    opened = LogFile.open
    turns = itertools.count()

    def rotating(path: Path) -> LogFile:
        log = opened(path)
        if next(turns) == 0:  # as the supervisor does when the file is full
            (tmp_path / "a.log.1").rename(tmp_path / "a.log.2")
            (tmp_path / "a.log").rename(tmp_path / "a.log.1")
            write(tmp_path / "a.log", "newest")
        return log

    monkeypatch.setattr(LogFile, "open", rotating)
    with open_logs(tmp_path, "a") as logs:
        read = [block.data for log in logs for block in log.forwards()]
    assert read == [b"new", b"old"]


def test_only_files_of_the_folder_itself_are_logs(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    write(tmp_path / "secret", "password")
    (folder / "link.log").symlink_to(tmp_path / "secret")
    (folder / "folder.log").mkdir()
    write(folder / "a b.log", "x")
    write(folder / "object-store.log", "x")
    assert list_services(folder) == ["folder", "link", "object-store"]
    for name in ("link", "folder"):
        with open_logs(folder, name) as logs:
            assert logs == []
    assert list_services(tmp_path / "none") == []

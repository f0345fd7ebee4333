import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from studio.cli import app
from tests.paths import ROOT
from tests.tasks.dataset.archives import Content, good, image, zipped


def main(arguments: list[str]) -> int:
    """The exit code of `studio check` with these arguments."""
    with pytest.raises(SystemExit) as end:
        app(["check", *arguments])
    return int(end.value.code or 0)


def unfolded(text: str) -> str:
    """A message as it was before it was put into a box."""
    return " ".join(text.replace("\u2502", " ").split())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(good()))
    return path


CODES: dict[str, tuple[dict[str, Content], int]] = {
    "valid": ({}, 0),
    "warnings": ({"labels/train/c.txt": ""}, 0),
    "invalid": ({"data.yaml": None}, 1),
    "an entry is damaged": ({"images/train/a.jpg": image()[:-9]}, 1),
}


@pytest.mark.parametrize(("changes", "expected"), CODES.values(), ids=CODES)
def test_the_exit_code_is_the_verdict(archive: Path, changes: dict[str, Content], expected: int) -> None:
    archive.write_bytes(zipped({**good(), **changes}))

    assert main([str(archive)]) == expected


def test_a_file_that_is_not_there_is_a_usage_error(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.unlink()

    assert main([str(archive)]) == 2
    assert "found no file" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize("content", [b"", b"no zip", zipped(good())[:-9]])
def test_the_exit_code_for_what_cannot_be_read(archive: Path, content: bytes) -> None:
    archive.write_bytes(content)

    assert main([str(archive), "--json"]) == 2


def test_a_damaged_entry_of_a_readable_zip_is_invalid_and_not_unreadable(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(zipped(good(), zipfile.ZIP_STORED))
    data[data.find(b"labels/train/a.txt") + len("labels/train/a.txt") + 4] ^= 1
    archive.write_bytes(data)

    assert main([str(archive)]) == 1
    assert "archive-unreadable" in capsys.readouterr().out


def test_json_is_the_whole_report(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(archive), "--json"])

    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "valid-with-warnings"
    assert report["archive"] == "mine.zip"
    assert report["digest"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert report["counts"] == {"class-few": 1, "class-split": 2}


def test_the_table_names_place_and_remedy(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.write_bytes(zipped(good(label="0 0.5 [bold] 0.1 0.1\n")))
    main([str(archive)])

    printed = capsys.readouterr().out
    assert "label-number" in printed
    assert "[bold]" in printed
    assert "mine.zip: invalid (class-unused 1, label-number 1)" in printed


def test_many_findings_are_cut_and_counted(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.write_bytes(zipped({**good(), **{f"labels/train/x{number}.txt": "" for number in range(25)}}))
    main([str(archive)])

    assert "22 more findings" in capsys.readouterr().out


@pytest.mark.slow
def test_it_imports_no_client_of_a_service(archive: Path) -> None:
    script = """import atexit, os, sys
clients = {'torch', 'prefect', 'mlflow', 'boto3', 'ultralytics'}
atexit.register(lambda: os._exit(9) if clients & set(sys.modules) else None)
from studio.cli import main
main()
"""
    command = [sys.executable, "-c", script, "check", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert (done.returncode, done.stderr) == (0, "")
    assert "mine.zip: valid" in done.stdout


def test_a_policy_comes_from_a_file(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = archive.with_name("policy.json")
    policy.write_text('{"raise_to_error": ["class-few"], "ignore": ["class-split"]}')

    assert main([str(archive), "--policy", str(policy)]) == 1
    assert "class-split" not in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "{", '{"no_such_field": 1}', '{"ignore": ["yaml-names"]}'])
def test_a_policy_that_is_none_is_named_with_the_reason(
    archive: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    policy = archive.with_name("policy.json")
    if text is not None:
        policy.write_text(text)

    assert main([str(archive), "--policy", str(policy)]) == 2
    assert "Expected a JSON file with fields of ValidationPolicy" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize("content", [zipped(good()), b"no zip"])
def test_the_page_is_written(archive: Path, content: bytes) -> None:
    archive.write_bytes(content)
    page = archive.with_name("page.html")
    main([str(archive), "--page", str(page)])

    assert "mine.zip" in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_reported(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(archive), "--page", str(archive.with_name("absent") / "page.html")]) == 2
    assert "Expected a place for the page" in unfolded(capsys.readouterr().err)


def test_a_name_that_is_no_unicode_is_shown_as_far_as_it_goes(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = archive.rename(os.fsdecode(os.fsencode(archive.parent) + b"/\xff.zip"))
    main([str(odd), "--json"])

    assert json.loads(capsys.readouterr().out)["archive"] == "\ufffd.zip"


def test_places_are_printed_in_full(
    archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "img_train0_jpg.rf.0123456789abcdef0123456789abcdef"
    archive.write_bytes(zipped({**good(), f"images/train/{name}.jpg": image(seed=7), f"labels/train/{name}.txt": "x"}))
    main([str(archive)])

    assert f"labels/train/{name}.txt:1: error label-columns: " in capsys.readouterr().out

"""Annotations that are made to do harm cost a clear error."""

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tasks.errors import StudioError
from tasks.importing.importer import ImportSummary, import_archive
from tasks.importing.steps import convert_archive
from tasks.parameters import ImportParams
from tests.paths import ROOT
from tests.tasks.importing import sources
from tests.tasks.importing.sources import Box

IMAGES = {"a.jpg": [Box("cat", 1, 1, 9, 9)]}
ENTITIES = "".join(f'<!ENTITY e{at} "{f"&e{at - 1};" * 10}">' for at in range(1, 30))


def convert(folder: Path, files: dict[str, bytes | str]) -> ImportSummary:
    source = sources.write_zip(folder / "source.zip", files)
    return import_archive(source, folder / "target.zip", ImportParams(), {})


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("a.json", "[" * 5_000_000, "nested too deeply"),
        ("a.json", '{"a":' * 100_000, "nested too deeply"),
        ("a.json", "1" * 100_000, "found: "),
        ("a.json", "\x00", "found: "),
        ("a.xml", f'<!DOCTYPE a [<!ENTITY e0 "x">{ENTITIES}]><annotations>&e29;</annotations>', "without entities"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotations>&e;</annotations>', "entities"),
        ("a.xml", "<a>" * 1_000_000, "found: "),
    ],
    ids=["brackets", "objects", "digits", "zero byte", "entities", "file", "tags"],
)
def test_a_hostile_document_is_refused_in_words(tmp_path: Path, name: str, document: str, words: str) -> None:
    with pytest.raises(StudioError, match=words):
        convert(tmp_path, {name: document, "a.jpg": sources.jpeg(0)})


def test_gigabytes_that_pack_into_little_are_left_out_unread(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {**sources.coco(IMAGES), "noise.bin": random.Random(0).randbytes(2**20)}  # noqa: S311
    source = sources.write_zip(tmp_path / "source.zip", files)
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", b"[" * 2**26)
    summary = convert_archive.fn(source, tmp_path / "target.zip", ImportParams(), "", "")
    assert summary.images == {"train": 1}
    assert ["bomb.json"] in summary.places.values()


def test_run_lengths_that_explode_are_left_out(tmp_path: Path) -> None:
    files = sources.coco(IMAGES)
    name = next(iter(files))
    document = json.loads(files[name])
    side = 2**20
    document["images"][0] |= {"width": side, "height": side}
    document["annotations"][0]["segmentation"] = {"size": [side, side], "counts": [0, side * side]}
    summary = convert(tmp_path, files | {name: json.dumps(document)})
    assert summary.changes["left out: a mask whose run lengths do not fill it"] == 1


def test_names_that_lead_out_of_the_archive_lead_nowhere(tmp_path: Path) -> None:
    files = sources.coco(IMAGES)
    name = next(iter(files))
    text = str(files[name]).replace("a.jpg", "../../../etc/a.jpg")
    convert(tmp_path, files | {name: text, "../b.jpg": sources.jpeg(1)})
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        assert [entry for entry in archive.namelist() if entry.endswith("jpg")] == ["images/train/a.jpg"]


def test_annotations_beyond_the_memory_of_the_process_are_refused(tmp_path: Path) -> None:
    """Under a smaller limit than a real one."""
    document = f'{{"images": [{"[[]]," * 8_000_000}0], "categories": []}}'
    source = sources.write_zip(tmp_path / "source.zip", {"a.json": document, "a.jpg": sources.jpeg(0)})
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    request.write_text(json.dumps({"importing": {}, "provenance": {}}))
    paths = [str(path) for path in (source, tmp_path / "target.zip", request, answer)]
    code = f"import tasks.importing.__main__ as m; m.MAX_MEMORY_BYTES = 2**30; m.main(*{paths!r}, '{os.getpid()}')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert "GiB of memory" in json.loads(answer.read_text())["refusal"]

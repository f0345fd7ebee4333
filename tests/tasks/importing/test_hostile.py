"""Annotations that are made to do harm cost a clear error."""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StudioError
from tasks.importing import steps
from tasks.importing.importer import ImportSummary, import_archive
from tasks.parameters import ImportParams
from tests.paths import ROOT
from tests.tasks.importing import sources
from tests.tasks.importing.sources import HEIGHT, SOURCES, WIDTH, Box

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
        ("a.xml", "<a>" * 200_000, "found: "),
    ],
    ids=["brackets", "objects", "digits", "zero byte", "entities", "file", "tags"],
)
def test_a_hostile_document_is_refused_in_words(tmp_path: Path, name: str, document: str, words: str) -> None:
    with pytest.raises(StudioError, match=words):
        convert(tmp_path, {name: document, "a.jpg": sources.jpeg(0)})


def test_a_table_with_a_field_without_end_is_refused_in_words(tmp_path: Path) -> None:
    files = sources.open_images(IMAGES)
    for name in [name for name in files if name.endswith("csv")]:
        with pytest.raises(StudioError, match=f"{name}.*field limit"):
            convert(tmp_path, {**files, name: str(files[name]) + "\n" + "x" * 200_000})


def test_gigabytes_that_pack_into_little_are_left_out_unread(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {**sources.coco(IMAGES), "noise.bin": random.Random(0).randbytes(2**20)}  # noqa: S311
    source = sources.write_zip(tmp_path / "source.zip", files)
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", b"[" * 2**26)
    summary = steps.convert_archive.fn(source, tmp_path / "target.zip", ImportParams(), "", "")
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
    assert summary.changes["not kept: a mask whose run lengths do not fill it"] == 1


def test_a_class_name_without_end_is_no_class(tmp_path: Path) -> None:
    """One class of an object, and one that is declared only."""
    files = sources.coco({**IMAGES, "b.jpg": [Box("x" * 201, 1, 1, 9, 9)]})
    name = next(iter(files))
    document = json.loads(files[name])
    document["categories"].append({"id": 99, "name": "y" * 1_000_000})
    summary = convert(tmp_path, files | {name: json.dumps(document)})
    assert (summary.class_names, summary.images) == (("cat",), {"train": 1})
    told = {kind: count for kind, count in summary.changes.items() if "200 characters" in kind}
    assert told == {
        "left out: a class with a name of more than 200 characters": 2,
        "left out: an object of a class with a name of more than 200 characters": 1,
    }


def test_what_an_import_says_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_ANSWER_BYTES", 100)
    source = sources.write_zip(tmp_path / "source.zip", sources.coco(IMAGES))
    with pytest.raises(steps.ImportFailedError, match="at most 100 bytes"):
        steps.convert_archive.fn(source, tmp_path / "target.zip", ImportParams(), "", "")


def test_names_that_lead_out_of_the_archive_lead_nowhere(tmp_path: Path) -> None:
    files = sources.coco(IMAGES)
    name = next(iter(files))
    text = str(files[name]).replace("a.jpg", "../../../etc/a.jpg")
    convert(tmp_path, files | {name: text, "../b.jpg": sources.jpeg(1)})
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        assert [entry for entry in archive.namelist() if entry.endswith("jpg")] == ["images/train/a.jpg"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "KeyError: 'a'. This is a fault of this program"), (-9, "Memory or time may have run out")],
)
def test_a_process_that_ends_without_an_answer_says_whose_fault_it_is(
    status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: str, __: list[str], output: TextIO) -> contextlib.AbstractContextManager[Mock]:
        output.write("Traceback\nKeyError: 'a'\n")
        output.flush()
        return contextlib.nullcontext(Mock(wait=lambda: status))

    monkeypatch.setattr(steps, "isolated_process", end)
    with pytest.raises(steps.ImportFailedError, match=words):
        steps.convert_archive.fn(tmp_path / "source.zip", tmp_path / "target.zip", ImportParams(), "", "")


MEASURED = """
import sys, time
from pathlib import Path
from tasks.importing import __main__ as process
process.MAX_MEMORY_BYTES = int(sys.argv[1])
process.main(*sys.argv[2:])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], time.process_time())
"""


def measure(source: Path, memory: int) -> tuple[dict[str, Any], float, float]:
    """Import in a process with so many bytes of memory: the answer, its peak in MiB, and the processor's seconds."""
    request, answer = source.with_name("request.json"), source.with_name("answer.json")
    request.write_text(json.dumps({"importing": {}, "provenance": {}}))
    paths = [str(path) for path in (source, source.with_name("target.zip"), request, answer)]
    command = [sys.executable, "-c", MEASURED, str(memory), *paths, str(os.getpid())]
    said = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout.split()
    print(f"{float(said[0]) / 2**10:.0f} MiB, {float(said[1]):.1f} s of the processor")
    return json.loads(answer.read_text()), float(said[0]) / 2**10, float(said[1])


@pytest.mark.slow
def test_annotations_beyond_the_memory_of_the_process_are_refused(tmp_path: Path) -> None:
    """Under a smaller limit than a real one."""
    document = f'{{"images": [{"[[]]," * 8_000_000}0], "categories": []}}'
    source = sources.write_zip(tmp_path / "source.zip", {"a.json": document, "a.jpg": sources.jpeg(0)})
    answer, _, _ = measure(source, 2**30)
    assert "GiB of memory" in answer["refusal"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("brackets", "packing", "noise", "words", "mebibytes"),
    [
        (10 * 10**9, zipfile.ZIP_DEFLATED, 0, "times the packed size", 200),
        (10 * 10**9, zipfile.ZIP_DEFLATED, 2**26, "times its packed size", 200),
        (2**30, zipfile.ZIP_STORED, 0, "nested too deeply", 3 * 2**10),
    ],
    ids=["packed", "packed beside noise", "as they are"],
)
def test_gigabytes_of_brackets_cost_little(
    tmp_path: Path, brackets: int, packing: int, noise: int, words: str, mebibytes: int
) -> None:
    """`-s` prints what they cost."""
    source = tmp_path / "source.zip"
    with zipfile.ZipFile(source, "w", packing) as archive:
        with archive.open("a.json", "w", force_zip64=True) as entry:
            for at in range(0, brackets, 2**20):
                entry.write(b"[" * min(2**20, brackets - at))
        archive.writestr("noise.bin", random.Random(0).randbytes(noise))  # noqa: S311
    print(f"{source.stat().st_size:,} bytes")
    answer, peak, seconds = measure(source, 12 * 2**30)
    assert words in answer["refusal"]
    assert peak < mebibytes
    assert seconds < 10


VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, True, -1, 0, 1e308, 10**30, "", "x", "NaN", "\ud800", [], [[]], [None], [1, "a"], [-1, 5], {}, {"\ud800": 1}]
)


def replaced(document: Any, place: int, value: object) -> Any:
    """The document with another value at one of its places, which are numbered from outside in."""
    whole = json.loads(json.dumps(document))
    slots = [
        (holder, key) for holder in walk(whole) for key in (holder if isinstance(holder, dict) else range(len(holder)))
    ]
    holder, key = slots[place % len(slots)]
    holder[key] = value
    return whole


def walk(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from walk(each)


RICH: dict[str, tuple[dict[str, Any], ...]] = {
    "coco": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}},
        {"keypoints": [1, 2, 2], "attributes": {"a": "b"}},
    ),
    "labelme": ({"shape_type": "circle", "flags": {"a": True}}, {"shape_type": "mask", "mask": "iVBORw0KGgo="}),
    "label studio": ({"type": "brushlabels"}, {"type": "keypointlabels", "parentID": "1"}),
    "datumaro": ({"type": "mask", "rle": {"counts": "00", "size": [1, 1]}}, {"type": "polygon", "points": [1, 2]}),
}


@pytest.mark.parametrize("name", RICH)
@settings(deadline=None)
@given(data=st.data())
def test_no_value_in_a_document_does_anything_but_to_be_left_out_or_refused(name: str, data: st.DataObject) -> None:
    files = SOURCES[name][1]({"a.jpg": [Box("cat", 1, 1, 9, 9)] * 3})
    entry = next(entry for entry in files if entry.endswith(".json"))
    document = json.loads(files[entry])
    objects = [each for each in walk(document) if isinstance(each, dict) and {"bbox", "points", "value"} & each.keys()]
    for each, changes in zip(objects, RICH[name], strict=False):
        each.update(changes)
    for _ in range(data.draw(st.integers(1, 3))):
        document = replaced(document, data.draw(st.integers(0, 1000)), data.draw(VALUES))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(StudioError):
        convert(Path(folder), files | {entry: json.dumps(document)})

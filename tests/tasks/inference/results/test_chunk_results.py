"""Parts of a run, written by one process after another, and what they are merged into."""

import json
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.inference.results import chunk_results as writing
from tasks.inference.results import parquet
from tasks.inference.results.chunk_reader import ChunkResultError
from tasks.inference.results.chunk_results import ChunkResultWriter, merge_chunk_results
from tasks.inference.results.parquet import IMAGES_SCHEMA, schema
from tasks.inference.results.report import inference_markdown
from tasks.inference.results.summary import WARNING, Failure, GalleryItem, InferenceSummary
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections
from tests.tasks.inference.results.examples import MODEL, item, model, picture

MERGED = {"predictions.parquet", "pictures.parquet", "coco.json", "failures.jsonl", "items.jsonl"}


def write(folder: Path, chunk: int, *found: Detections, served: ServedModel = MODEL, failures: int = 0) -> Path:
    """Write the part of some images; the first `failures` of them have one each beside their detections."""
    with ChunkResultWriter(folder, chunk, served) as part:
        for number, each in enumerate(found):
            part.add(each)
            part.item(item(each))
            if number < failures:
                part.fail(Failure(source=each.source, reason="expected"))
    return part.path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def coco(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "coco.json").read_text()))


def test_a_part_is_a_stored_zip_that_says_what_it_is(tmp_path: Path) -> None:
    frames = [picture(1, 0, source="v.mp4", frame=number) for number in range(3)]
    with ChunkResultWriter(tmp_path, 12, MODEL, tracked=True) as part:
        for frame in frames:
            part.add(frame)
        part.item(item(*frames))
        part.fail(Failure(source="v.mp4", reason="its end is missing"))
        part.fail(Failure(source="v.mp4", reason="no annotated video"))
        assert not part.path.exists()
    assert [path.name for path in tmp_path.iterdir()] == [part.path.name] == ["000012.zip"]
    with zipfile.ZipFile(part.path) as file:
        assert set(file.namelist()) == MERGED - {"coco.json"} | {"part.json"}
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}
        about = json.loads(file.read("part.json"))
        columns = pq.read_schema(pa.BufferReader(file.read("predictions.parquet")))
        (shown,) = map(GalleryItem.from_line, file.read("items.jsonl").splitlines())
    assert columns == schema("detect", tracked=True)
    assert (shown.source, shown.kind, shown.frames, shown.cell) == ("v.mp4", "video", 3, 3)
    totals = about.pop("totals")
    assert about.pop("started") > 0
    assert about.pop("seconds") >= 0
    model_facts = {"model_name": "cells", "model_version": 7, "task": "detect", "class_names": ["red", "white"]}
    assert about == {"chunk": 12, "image_size": 64, "run_id": "run"} | model_facts
    assert sum(totals.pop("histogram")) == 6
    counts = {"inputs": 1, "failed_inputs": 1, "failure_count": 2, "images": 0, "videos": 1, "frames": 3}
    assert totals == {"classes": {"white": 3, "red": 3}} | counts


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with suppress(RuntimeError), ChunkResultWriter(tmp_path, 0, MODEL) as part:
        part.add(picture(1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with suppress(pa.ArrowInvalid), ChunkResultWriter(tmp_path, 0, model("segment")) as part:
        part.add(Detections(**vars(picture(1, 0)) | {"polygons": picture(1, task="segment").polygons}))
    assert list(tmp_path.iterdir()) == []


def test_the_part_of_a_killed_writer_is_not_there_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys\n"
        "from tasks.inference.results.chunk_results import ChunkResultWriter\n"
        "from tests.tasks.inference.results.examples import MODEL, item, picture\n"
        "with ChunkResultWriter(pathlib.Path(sys.argv[1]), 0, MODEL) as part:\n"
        "    part.add(picture(1)); part._flush(); part.item(item(picture(1)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, cwd=Path.cwd())
    assert killed.returncode == -9
    assert list(tmp_path.glob("*.zip")) == []
    summary = merge_chunk_results([write(tmp_path, 0, picture(0))], tmp_path / "merged")
    assert summary.classes == {"red": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"000000.zip", "merged"}


def test_a_long_video_is_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP_SIZE", 10)
    monkeypatch.setattr(parquet, "ROW_GROUP_SIZE", 25)
    with ChunkResultWriter(tmp_path, 0, MODEL) as part:
        for number in range(100):
            part.add(picture(*[0] * (number % 4 if number > 50 else 0), source="v.mp4", frame=number))
            assert len(part._waiting) <= 10
    merge_chunk_results([part.path], tmp_path / "merged")
    for name, rows in (("predictions.parquet", 75), ("pictures.parquet", 100)):
        with pq.ParquetFile(tmp_path / "merged" / name) as file:
            groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        assert sum(groups) == rows
        assert all(25 <= group < 40 for group in groups[:-1])
    assert len(coco(tmp_path / "merged")["annotations"]) == 75


def test_parts_become_the_files_of_the_run(tmp_path: Path) -> None:
    parts = [
        write(tmp_path, 0, picture(1, 1, source="a"), picture(source="b"), failures=1),
        write(tmp_path, 3, picture(0, source="c\udcff")),
    ]
    summary = merge_chunk_results(iter(parts), tmp_path / "merged")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == MERGED
    assert pq.read_table(tmp_path / "merged/predictions.parquet")["source"].to_pylist() == ["a", "a", "c\\udcff"]
    assert pq.read_table(tmp_path / "merged/pictures.parquet")["detections"].to_pylist() == [2, 0, 1]
    assert [image["file_name"] for image in coco(tmp_path / "merged")["images"]] == ["a", "b", "c\\udcff"]
    assert [entry["image_id"] for entry in coco(tmp_path / "merged")["annotations"]] == [1, 1, 3]
    assert [entry["source"] for entry in lines(tmp_path / "merged/items.jsonl")] == ["a", "b", "c\\udcff"]
    assert lines(tmp_path / "merged/failures.jsonl") == [{"input": "a", "reason": "expected", "severity": "error"}]
    assert (summary.inputs, summary.failed_inputs, summary.images, summary.detections) == (3, 1, 3, 3)
    assert (summary.versions, summary.class_names) == ((7,), ("red", "white"))
    assert list(summary.classes.items()) == [("white", 2), ("red", 1)]
    assert summary.failures == (Failure(source="a", reason="expected"),)
    assert 0 < summary.seconds < 60
    assert summary.images_per_second == 3 / summary.seconds


def test_a_warning_is_listed_and_does_not_count_as_failed(tmp_path: Path) -> None:
    with ChunkResultWriter(tmp_path, 0, MODEL) as part:
        part.add(picture(source="z.zip/a.jpg"))
        part.fail(Failure(source="z.zip", reason="expected", severity=WARNING))
    summary = merge_chunk_results([part.path], tmp_path / "merged")
    assert (summary.inputs, summary.failed_inputs, summary.failure_count) == (1, 0, 1)
    assert summary.failures == (Failure(source="z.zip", reason="expected", severity=WARNING),)
    (told,) = lines(tmp_path / "merged/failures.jsonl")
    assert told == {"input": "z.zip", "reason": "expected", "severity": "warning"}
    assert "- **z.zip** (warning): expected" in inference_markdown(summary, "m", "g", "p")


def test_no_part_at_all_gives_empty_files(tmp_path: Path) -> None:
    summary = merge_chunk_results([], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == MERGED
    assert pq.read_table(tmp_path / "predictions.parquet").schema == schema("detect", tracked=False)
    assert pq.read_table(tmp_path / "pictures.parquet").schema == IMAGES_SCHEMA
    assert coco(tmp_path) == {"images": [], "annotations": [], "categories": []}
    assert (tmp_path / "items.jsonl").read_bytes() == (tmp_path / "failures.jsonl").read_bytes() == b""
    assert (summary.inputs, summary.failure_share, summary.images_per_second, summary.versions) == (0, 0, 0, ())


def test_a_deployment_in_the_middle_joins_classes_by_name(tmp_path: Path) -> None:
    after = model(version=8, names=("white", "blue", "red"))
    parts = [
        write(tmp_path, 0, picture(0, 1, source="a")),
        write(tmp_path, 1, picture(0, 1, 2, 9, source="b"), served=after),
    ]
    summary = merge_chunk_results(parts, tmp_path / "merged")
    rows = pq.read_table(tmp_path / "merged/predictions.parquet")
    assert rows["model_version"].to_pylist() == [7, 7, 8, 8, 8, 8]
    assert rows["class_name"].to_pylist() == ["red", "white", "white", "blue", "red", "class 9"]
    assert summary.versions == (7, 8)
    assert summary.class_names == ("red", "white", "blue", "class 9")
    assert summary.classes == {"red": 2, "white": 2, "blue": 1, "class 9": 1}
    names = {entry["id"]: entry["name"] for entry in coco(tmp_path / "merged")["categories"]}
    told = [names[entry["category_id"]] for entry in coco(tmp_path / "merged")["annotations"]]
    assert told == rows["class_name"].to_pylist()
    shown = [GalleryItem.from_line(line) for line in (tmp_path / "merged/items.jsonl").read_bytes().splitlines()]
    assert [summary.class_names[tally.class_id] for each in shown for tally in each.classes] == told


def test_another_task_in_the_middle_is_refused(tmp_path: Path) -> None:
    parts = [write(tmp_path, 0, picture(0)), write(tmp_path, 1, picture(0), served=model("segment"))]
    with pytest.raises(ChunkResultError, match=r"000001\.zip"):
        merge_chunk_results(parts, tmp_path / "merged")


def test_a_part_that_comes_twice_is_refused(tmp_path: Path) -> None:
    part = write(tmp_path, 4, picture(0))
    with pytest.raises(ChunkResultError, match=r"found 000004\.zip after 000004\.zip"):
        merge_chunk_results([part, part], tmp_path / "merged")


def test_a_part_may_be_deleted_before_the_next_one_is_read(tmp_path: Path) -> None:
    def fetched() -> Iterator[Path]:
        for chunk in range(3):
            part = write(tmp_path, chunk, picture(0, source=str(chunk)))
            yield part
            part.unlink()

    assert merge_chunk_results(fetched(), tmp_path / "merged").images == 3


def test_failures_beyond_the_first_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_FAILURES", 3)
    parts = [
        write(tmp_path, chunk, *[picture(source=f"{chunk}-{n}") for n in range(4)], failures=2) for chunk in (1, 2)
    ]
    summary = merge_chunk_results(parts, tmp_path / "merged")
    assert [failure.source for failure in summary.failures] == ["1-0", "1-1", "2-0"]
    assert (summary.failure_count, summary.failed_inputs, summary.failure_share) == (4, 4, 0.5)
    assert len(lines(tmp_path / "merged/failures.jsonl")) == 4


def test_a_damaged_part_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    whole = write(tmp_path, 5, picture(0, 1), failures=1).read_bytes()
    part, good = tmp_path / "000007.zip", write(tmp_path, 6, picture(0))
    step = max(len(whole) // 60, 1)
    cut = [whole[:at] for at in range(0, len(whole), step)]
    flipped = [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(7, len(whole), step)]
    said = [complaint(good, part, data, tmp_path / "merged") for data in [*cut, *flipped]]
    assert all("000007.zip" in each for each in said[: len(cut)])
    # Some bytes of a zip say nothing about its content: a time, an attribute.
    assert sum("000007.zip" in each for each in said) > len(cut) + 0.8 * len(flipped)


def complaint(good: Path, part: Path, data: bytes, folder: Path) -> str:
    """Return what is said of a part of such bytes, empty where it is fine."""
    part.write_bytes(data)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        merge_chunk_results([good, part], folder)
    except ChunkResultError as error:
        return str(error) if not list(folder.iterdir()) else "something is left"
    return ""


def test_counts_that_disagree_are_damage(tmp_path: Path) -> None:
    part, other = write(tmp_path, 0, picture(0, 1)), write(tmp_path, 1, picture(0))
    mixed = tmp_path / "000002.zip"
    with zipfile.ZipFile(part) as file, zipfile.ZipFile(other) as pictures, zipfile.ZipFile(mixed, "w") as made:
        for name in file.namelist():
            made.writestr(name, (pictures if name == "pictures.parquet" else file).read(name))
    with pytest.raises(ChunkResultError, match=r"000002\.zip, found ValueError: 2 rows for pictures with 1 detections"):
        merge_chunk_results([mixed], tmp_path / "merged")


Made = tuple[str, list[list[int]], int]  # image or video, classes of each picture, failures


@settings(max_examples=40, deadline=None)
@given(
    made=st.lists(
        st.tuples(
            st.sampled_from(["image", "video", "broken"]),
            st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=4),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=8,
    ),
    cuts=st.sets(st.integers(0, 8), max_size=8),
    group=st.integers(1, 12),
)
@pytest.mark.slow
def test_any_number_of_parts_gives_the_same_files(made: list[Made], cuts: set[int], group: int) -> None:
    bounds = sorted({0, len(made)} | {cut for cut in cuts if cut < len(made)})
    spans = list(pairwise(bounds))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        split = [keep(folder, first, made[first:last], first) for first, last in spans]
        several = merge_chunk_results(split, folder / "several")
        # One part in very small groups beside several in large ones.
        patch.setattr(writing, "ROW_GROUP_SIZE", group)
        single = merge_chunk_results([keep(folder / "one", 0, made, 0)], folder / "single")
        assert replace(several, seconds=0) == replace(single, seconds=0)
        for file in ("predictions.parquet", "pictures.parquet"):
            assert pq.read_table(folder / "several" / file).equals(pq.read_table(folder / "single" / file))
        for file in ("items.jsonl", "failures.jsonl"):
            assert (folder / "several" / file).read_bytes() == (folder / "single" / file).read_bytes()
        assert coco(folder / "several") == coco(folder / "single")
        assert_every_input_once(folder / "several", several, made)


def keep(folder: Path, chunk: int, made: Sequence[Made], first: int) -> Path:
    """Write the part of inputs `made`, which are named by their number from `first`."""
    with ChunkResultWriter(folder, chunk, model("pose")) as part:
        for number, (kind, classes, failures) in enumerate(made, first):
            found = [
                picture(*some, source=f"{number}", frame=index if kind == "video" else None, task="pose")
                for index, some in enumerate(classes[: None if kind == "video" else 1])
            ]
            for each in found if kind != "broken" else []:
                part.add(each)
            if kind != "broken":
                part.item(item(*found))
            for _ in range(failures + (kind == "broken")):
                part.fail(Failure(source=f"{number}", reason="expected"))
    return part.path


def assert_every_input_once(folder: Path, summary: InferenceSummary, made: Sequence[Made]) -> None:
    good = [f"{number}" for number, (kind, _, _) in enumerate(made) if kind != "broken"]
    failed = {f"{number}" for number, (kind, _, failures) in enumerate(made) if kind == "broken" or failures}
    assert [entry["source"] for entry in lines(folder / "items.jsonl")] == good
    sources = pq.read_table(folder / "pictures.parquet")["source"].to_pylist()
    assert list(dict.fromkeys(sources)) == good
    assert {entry["input"] for entry in lines(folder / "failures.jsonl")} == failed
    assert (summary.inputs, summary.failed_inputs) == (len(made), len(failed))
    assert summary.frames == sum(len(classes) for kind, classes, _ in made if kind == "video")


@pytest.mark.slow
def test_merging_ten_times_the_parts_takes_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_SIZE", 250)
    monkeypatch.setattr(writing, "MAX_FAILURES", 100)
    found = [picture(1, 9, 0, 1, source=f"{number:060d}", task="obb") for number in range(16)]
    part = write(tmp_path, 0, *found, served=model("obb"), failures=16)
    few, many = peaks(part, tmp_path / "few", 10), peaks(part, tmp_path / "many", 100)
    assert pq.read_metadata(tmp_path / "many/predictions.parquet").num_rows == 100 * 16 * 4
    # Kept rows would be many times as much; what a garbage collection comes late for is half as much again.
    assert all(after < before * 1.75 for before, after in zip(few, many, strict=True)), (few, many)


def peaks(part: Path, folder: Path, count: int) -> tuple[int, int]:
    """Return the most bytes that Python and Arrow held while `count` copies of a part were merged."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        merge_chunk_results(copies(part, folder.with_suffix(".zip"), count), folder)
        return tracemalloc.get_traced_memory()[1], pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def copies(part: Path, place: Path, count: int) -> Iterator[Path]:
    """Put copies of a part, numbered, at one place, one after another."""
    for chunk in range(count):
        with zipfile.ZipFile(part) as source, zipfile.ZipFile(place, "w") as copy:
            for name in source.namelist():
                data = source.read(name)
                about = name == "part.json"
                copy.writestr(name, json.dumps(json.loads(data) | {"chunk": chunk}) if about else data)
        yield place

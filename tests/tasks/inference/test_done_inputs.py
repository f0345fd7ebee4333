"""Inputs that are done: which of a run are, what a later run leaves out of them, and how fast that is."""

import io
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import boto3
import pyarrow.parquet as pq
import pytest

from tasks.inference import done_inputs
from tasks.inference.done_inputs import count_as_done, leave_out_done, read_answered, read_done, write_record
from tasks.inference.results.chunk_results import ChunkResultWriter, merge_chunk_results
from tasks.inference.results.parquet import IMAGES_SCHEMA, ParquetTableWriter, to_image_table
from tasks.inference.results.summary import WARNING, Failure
from tasks.inference.work_plan import Chunk, MediaSource, split_into_chunks
from tasks.media.file_type import MediaKind
from tasks.storage.s3_client import StorageError
from tests.tasks.inference.results.examples import MODEL, model, picture

MANY = 100_000


def source(key: str, etag: str = '"1"', kind: MediaKind = MediaKind.IMAGE) -> MediaSource:
    return MediaSource(name=f"s3://media/{key}", bucket="media", key=key, etag=etag, size=1, kind=kind)


def packed(zip_key: str, *entries: str, etag: str = '"1"') -> list[MediaSource]:
    """A note about a zip, and its entries."""
    archive = source(zip_key, etag)
    images = [replace(archive, name=f"{archive.name}/{name}", entry=place) for place, name in enumerate(entries)]
    return [replace(archive, note="1 file is no image"), *images]


# ---- which inputs of a run are done ---------------------------------------------------------------------------------


def recorded(folder: Path) -> list[tuple[str, str, int]]:
    rows = pq.read_table(folder / done_inputs.RECORD).to_pylist()
    return [(row["source"], row["etag"], row["model_version"]) for row in rows]


def test_what_failed_or_was_not_reached_is_not_done(tmp_path: Path) -> None:
    """The second chunk was answered by another version; a video that failed in its middle has frames all the same."""
    first = (source("a.jpg"), source("broken.jpg"), *packed("p.zip", "1.jpg", "bad.jpg", etag='"z"'))
    second = (source("v.mp4", kind=MediaKind.VIDEO),)
    third = (source("torn.mp4", kind=MediaKind.VIDEO),)
    a, broken, note, one, bad = (each.name for each in first)
    with ChunkResultWriter(tmp_path, 0, MODEL) as part:
        part.add(picture(0, source=a))
        part.fail(Failure(source=broken, reason="x"))
        part.fail(Failure(source=note, reason="x", severity=WARNING))
        part.add(picture(source=one))
        part.fail(Failure(source=bad, reason="x"))
    paths = [part.path]
    for number, (film,) in enumerate([second, third], 1):
        with ChunkResultWriter(tmp_path, number, model(version=8)) as part:
            for frame in range(3):
                part.add(picture(1, source=film.name, frame=frame))
            if film is third[0]:
                part.fail(Failure(source=film.name, reason="x"))
        paths.append(part.path)
    results = tmp_path / "results"
    merge_chunk_results(paths, results)
    write_record(results, [Chunk(0, first), Chunk(1, second), Chunk(2, third)])
    assert recorded(results) == [(a, '"1"', 7), (one, '"z"', 7), (second[0].name, '"1"', 8)]


def test_what_a_run_has_done_is_found_by_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = source("v.mp4", kind=MediaKind.VIDEO)
    done = [source("a.jpg"), packed("p.zip", "1.jpg", etag='"z"')[1], film]
    with ChunkResultWriter(tmp_path, 0, MODEL) as part:
        for each in done:
            part.add(picture(source=each.name, frame=0 if each is film else None))
    merge_chunk_results([part.path], tmp_path / "results")
    write_record(tmp_path / "results", [Chunk(0, tuple(done))])
    record = tmp_path / "results" / done_inputs.RECORD
    old = io.BytesIO()
    pq.write_table(pq.read_table(record).select(["source", "etag", "model_version"]), old)
    objects = {f"run/{done_inputs.RECORD}": record.read_bytes(), f"old/{done_inputs.RECORD}": old.getvalue()}
    monkeypatch.setattr(done_inputs._PREDICTIONS, "get", objects.get)
    assert read_answered("run") == done
    assert read_answered("none") is None
    with pytest.raises(StorageError, match="Name the images themselves"):
        read_answered("old")


def test_names_that_are_no_unicode_are_found_again(tmp_path: Path) -> None:
    _, odd = packed("p.zip", "\udcff<b>.jpg")
    with ChunkResultWriter(tmp_path, 0, MODEL) as part:
        part.add(picture(source=odd.name))
    merge_chunk_results([part.path], tmp_path / "results")
    write_record(tmp_path / "results", [Chunk(0, (odd,))])
    ((name, etag, _),) = recorded(tmp_path / "results")
    assert list(leave_out_done([odd], {(name, etag): "run"}, Counter())) == []


# ---- what a later run leaves out ------------------------------------------------------------------------------------


def left(sources: list[MediaSource], *done: MediaSource) -> tuple[list[MediaSource], Counter[str]]:
    counted = Counter[str]()
    remaining = leave_out_done(sources, {(each.name, each.etag): f"run {each.key[0]}" for each in done}, counted)
    return list(remaining), counted


def test_only_what_has_the_same_name_and_content_is_left_out() -> None:
    sources = [source("a.jpg"), source("b.jpg", '"2"'), source("c.jpg")]
    assert left(sources, source("a.jpg"), source("b.jpg")) == (sources[1:], {"run a": 1})


def test_notes_about_a_zip_go_with_the_last_of_its_images() -> None:
    note, *images = packed("p.zip", "1.jpg", "2.jpg")
    assert left([note, *images], *images) == ([], {"run p": 2})
    assert left([note, *images], images[0]) == ([note, images[1]], {"run p": 1})


# ---- in the store ---------------------------------------------------------------------------------------------------


def publish(run: str, folder: Path, sources: list[MediaSource], version: int) -> None:
    """Leave the record of a run that has done these sources."""
    folder.mkdir()
    with ParquetTableWriter(folder / "pictures.parquet", IMAGES_SCHEMA) as pictures:
        pictures.add(to_image_table((picture(source=each.name) for each in sources), model(version=version)))
    (folder / "failures.jsonl").touch()
    write_record(folder, split_into_chunks(sources))
    boto3.client("s3").upload_file(str(folder / done_inputs.RECORD), "predictions", f"{run}/{done_inputs.RECORD}")
    count_as_done(run, "cells", [version])


@pytest.fixture
def version(stack: object) -> Iterator[int]:  # noqa: ARG001
    """A version of `cells` that nothing was done with."""
    number = uuid4().int % 1_000_000
    yield number
    for run in {*read_done("cells", number).values()}:
        boto3.client("s3").delete_object(Bucket="predictions", Key=f"{run}/{done_inputs.RECORD}")


def test_only_the_same_version_and_results_that_are_there_count(version: int, tmp_path: Path) -> None:
    first, second = str(uuid4()), str(uuid4())
    publish(first, tmp_path / "1", [source("a.jpg")], version)
    publish(second, tmp_path / "2", [source("b.jpg")], version)
    assert read_done("cells", version) == {
        ("s3://media/a.jpg", '"1"'): first,
        ("s3://media/b.jpg", '"1"'): second,
    }
    assert not read_done("cells", version + 1_000_000)
    assert not read_done("cell", version)
    boto3.client("s3").delete_object(Bucket="predictions", Key=f"{first}/{done_inputs.RECORD}")
    assert set(read_done("cells", version).values()) == {second}
    index = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"done-inputs/cells/{version}/")["Contents"]
    assert [entry["Key"].rpartition("/")[2] for entry in index] == [second]


def test_a_hundred_thousand_inputs_take_seconds(version: int, tmp_path: Path) -> None:
    sources = [source(f"street/{number:06d}.jpg", f'"{number:032x}"') for number in range(MANY)]
    publish(str(uuid4()), tmp_path / "many", sources, version)
    began = time.monotonic()
    assert left_of(sources, version) == []
    assert time.monotonic() - began < 5
    assert left_of([*sources, source("street/new.jpg")], version) == [source("street/new.jpg")]


def left_of(sources: list[MediaSource], version: int) -> list[MediaSource]:
    return list(leave_out_done(sources, read_done("cells", version), Counter()))

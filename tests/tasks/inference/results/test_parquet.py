"""Detections as tables and as COCO."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.inference.results import parquet
from tasks.inference.results.coco import CocoWriter, annotation_entries, image_entries
from tasks.inference.results.parquet import (
    IMAGES_SCHEMA,
    ParquetTableWriter,
    schema,
    to_detections,
    to_image_table,
    to_table,
)
from tasks.vision.detections import Detections
from tests.tasks.inference.results.examples import MODEL, model, picture

COLUMNS = ["source", "frame", "timestamp_ms", "class_id", "class_name", "confidence"]
COLUMNS += ["x1", "y1", "x2", "y2", "model_name", "model_version"]


def table(*found: Detections, task: str = "detect", tracked: bool = False) -> pa.Table:
    return to_table(found, model(task), schema(task, tracked))


def annotations(*found: Detections, task: str = "detect") -> list[dict[str, object]]:
    rows = table(*found, task=task)
    return annotation_entries(rows, np.ones(len(rows), np.int64), np.zeros(len(rows), np.int64), 1)


@pytest.mark.parametrize(
    ("task", "own"),
    [
        ("detect", []),
        ("classify", []),
        ("segment", ["polygon"]),
        ("pose", ["keypoints"]),
        ("obb", ["polygon", "rotated"]),
    ],
)
def test_the_columns_are_the_contracts_and_those_of_the_task(task: str, own: list[str]) -> None:
    assert schema(task, tracked=False).names == COLUMNS + own
    assert schema(task, tracked=True).names == [*COLUMNS, *own, "track_id"]
    rows = table(picture(1, 0, task=task), picture(task=task), picture(0, source="b", task=task), task=task)
    rows.validate(full=True)
    assert rows.schema == schema(task, tracked=False)
    assert rows["source"].to_pylist() == ["a.jpg", "a.jpg", "b"]
    assert all(rows[name].null_count == 0 for name in own)


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_rows_become_the_detections_that_they_are_of(task: str) -> None:
    found = picture(1, 0, task=task)
    back = to_detections(table(found, task=task).to_pylist(), 128, 64, "a.jpg")
    assert (back.width, back.height, back.source) == (128, 64, "a.jpg")
    for name in ("xyxy", "confidence", "class_id", "polygons", "keypoints"):
        assert np.array_equal(getattr(back, name), getattr(found, name)), name
    assert len(to_detections([], 128, 64)) == 0


def test_a_row_says_everything() -> None:
    (row,) = table(picture(1, source="v.mp4", frame=3)).to_pylist()
    assert list(row) == COLUMNS
    assert (row["source"], row["frame"], row["timestamp_ms"]) == ("v.mp4", 3, 120.0)
    assert (row["class_id"], row["class_name"], row["model_name"], row["model_version"]) == (1, "white", "cells", 7)
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == [10, 20, 40, 60]
    assert row["confidence"] == pytest.approx(0.9)


def test_an_image_has_no_frame_and_no_picture_gives_no_row() -> None:
    rows = table(picture(1), picture(0, frame=5))
    assert rows["frame"].to_pylist() == [None, 5]
    assert table().schema == schema("detect", tracked=False)
    assert table().num_rows == table(picture()).num_rows == 0


def test_what_a_task_gives_is_a_list_of_numbers() -> None:
    assert table(picture(0, task="segment"), task="segment")["polygon"].to_pylist() == [[10, 20, 40, 20, 10, 60]]
    (points,) = table(picture(0, task="pose"), task="pose")["keypoints"].to_pylist()
    assert points == pytest.approx([11, 22, 0.9, 33, 44, 0.2])
    (turned,) = table(picture(0, task="obb"), task="obb")["rotated"].to_pylist()
    assert turned == pytest.approx([25, 40, 20, 10, 0.5])


def test_a_picture_without_what_the_task_gives_has_nulls() -> None:
    rows = table(picture(0), picture(1, task="segment"), task="segment")
    assert [value is None for value in rows["polygon"].to_pylist()] == [True, False]


def test_a_track_is_null_where_nothing_is_followed() -> None:
    followed = picture(0, 1, frame=0)
    followed = replace(followed, tracker_id=np.array([4, 0]))
    assert table(picture(0), followed, tracked=True)["track_id"].to_pylist() == [None, 4, None]


def test_classes_that_the_model_does_not_list_have_a_made_up_name() -> None:
    assert table(picture(9, -3, 1))["class_name"].to_pylist() == ["class 9", "class -3", "white"]


def test_names_that_are_no_unicode_stay_two_names() -> None:
    odd = [picture(0, source=name) for name in ("a\udcff", "a\ud800", "a\0", "红")]
    assert table(*odd)["source"].to_pylist() == ["a\\udcff", "a\\ud800", "a\0", "红"]
    assert to_image_table(odd, MODEL)["source"].to_pylist() == table(*odd)["source"].to_pylist()
    assert to_table(odd[:1], model(names=("\ud800",)), schema("detect", False))["class_name"][0].as_py() == "\\ud800"


def test_every_picture_has_a_row_with_its_detections() -> None:
    rows = to_image_table([picture(1, 0), replace(picture(frame=2), image="images/a-000002.jpg")], MODEL)
    assert rows.schema == IMAGES_SCHEMA
    assert rows.to_pylist() == [
        dict(zip(IMAGES_SCHEMA.names, ["a.jpg", None, None, 128, 64, 2, 7, None], strict=True)),
        dict(zip(IMAGES_SCHEMA.names, ["a.jpg", 2, 80.0, 128, 64, 0, 7, "images/a-000002.jpg"], strict=True)),
    ]


def test_a_file_gathers_small_tables_into_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_SIZE", 5)
    with ParquetTableWriter(tmp_path / "x.parquet", schema("detect", False)) as file:
        for _ in range(7):
            file.add(table(picture(0, 1)))
            file.add(table())
    with pq.ParquetFile(tmp_path / "x.parquet") as read:
        assert [read.metadata.row_group(number).num_rows for number in range(read.num_row_groups)] == [6, 6, 2]
        assert read.metadata.row_group(0).column(0).compression == "ZSTD"


def test_coco_says_left_top_width_height() -> None:
    (entry,) = annotation_entries(table(picture(1)), np.array([4]), np.array([1]), 9)
    assert entry["bbox"] == [10, 20, 30, 40]
    assert (entry["id"], entry["image_id"], entry["category_id"], entry["area"]) == (9, 4, 1, 1200)
    assert (entry["score"], entry["iscrowd"]) == (0.9, 0)
    assert "segmentation" not in entry
    kept = replace(picture(), image="images/a-1.png")
    images = image_entries(to_image_table([picture(), picture(frame=3), kept], MODEL), 4)
    assert images[0] == {"id": 4, "file_name": "a.jpg", "width": 128, "height": 64, "source": "a.jpg"}
    frame = {"id": 5, "file_name": "a.jpg#frame=3", "frame": 3, "timestamp_ms": 120.0}
    assert images[1] == images[0] | frame
    assert images[2] == images[0] | {"id": 6, "file_name": "images/a-1.png"}


def test_coco_has_outlines_and_their_areas() -> None:
    first, second = annotations(picture(0, 1, task="segment"), task="segment")
    assert first["segmentation"] == [[10, 20, 40, 20, 10, 60]]
    assert second["segmentation"] == [[11, 20, 41, 20, 11, 60]]
    assert first["area"] == second["area"] == 600
    (turned,) = annotations(picture(0, task="obb"), task="obb")
    assert turned["area"] == pytest.approx(200, abs=0.01)


def test_coco_has_the_box_alone_where_an_outline_is_none() -> None:
    whole = picture(0, 0, 0, 0, task="segment")
    assert whole.polygons is not None
    nothing, hostile = np.zeros((0, 2), np.float32), np.full((5, 2), np.nan, np.float32)
    broken = Detections(**vars(whole) | {"polygons": (nothing, hostile, whole.polygons[0], whole.polygons[1][:2])})
    entries = annotations(broken, picture(0), task="segment")
    assert [entry["area"] for entry in entries] == [1200, 1200, 600, 1200, 1200]
    assert [bool(entry["segmentation"]) for entry in entries] == [False, False, True, False, False]
    json.dumps(entries, allow_nan=False)


def test_coco_counts_the_keypoints_that_are_seen() -> None:
    pose = picture(0, 0, task="pose")
    assert pose.keypoints is not None
    pose.keypoints[1, 0, 0] = np.inf
    first, second = annotations(pose, task="pose")
    assert (first["keypoints"], first["num_keypoints"]) == ([11, 22, 2, 0, 0, 0], 1)
    assert (second["keypoints"], second["num_keypoints"]) == ([0] * 6, 0)
    assert annotations(picture(0), task="pose")[0]["keypoints"] == []


def test_coco_written_in_pieces_is_one_file(tmp_path: Path) -> None:
    pieces = [picture(0, source="one"), picture(source="two")], [picture(source="three")], [picture(9, 0, source="v")]
    with CocoWriter(tmp_path / "coco.json") as writer:
        writer.category("red")
        for piece in pieces:
            writer.add(to_image_table(piece, MODEL), table(*piece))
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["one", "two", "three", "v"]
    assert [(entry["id"], entry["image_id"], entry["category_id"]) for entry in coco["annotations"]] == [
        (1, 1, 0),
        (2, 4, 1),
        (3, 4, 0),
    ]
    assert coco["categories"] == [{"id": 0, "name": "red"}, {"id": 1, "name": "class 9"}]
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]

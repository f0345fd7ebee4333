"""Served arrays to detections, and detections to rows, tables and COCO."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.core.coco import annotation_entries, categories, image_entry
from tasks.core.detections import SCHEMA, Detections, Moment, to_table
from tasks.core.geometry import Floats, Letterbox
from tasks.core.parameters import InferenceParams
from tasks.core.served import ServedModel
from tasks.core.sinks import Results
from tasks.core.summary import Failure, GalleryItem, InferenceSummary, Tally, item_classes, output_stem

MODEL = ServedModel("cells", 7, "detect", 64, ("red", "white"), "run")
COLUMNS = ["source", "frame", "timestamp_ms", "class_id", "class_name", "confidence"]
COLUMNS += ["x1", "y1", "x2", "y2", "model_name", "model_version"]


def served(*rows: list[float]) -> Floats:
    array = np.zeros((300, 6), np.float32)
    array[: len(rows)] = np.reshape(rows, (-1, 6))
    return array


def found(*rows: list[float], source: str = "a.jpg", moment: Moment | None = None, **params: Any) -> Detections:
    letterbox = Letterbox.fit(128, 64, 64)
    return Detections.from_served(served(*rows), letterbox, InferenceParams(**params), source, moment)


def test_boxes_are_in_pixels_of_the_original() -> None:
    detections = found([10, 20, 30, 40, 0.9, 1])
    assert detections.boxes.tolist() == [[20, 8, 60, 48]]
    assert (detections.width, detections.height) == (128, 64)
    assert detections.class_id.tolist() == [1]


def test_padding_rows_go_even_when_every_confidence_is_wanted() -> None:
    assert len(found([10, 20, 30, 40, 0.01, 0], confidence=0.0)) == 1


def test_the_threshold_keeps_what_reaches_it() -> None:
    assert found([10, 20, 30, 40, 0.5, 0], [10, 20, 30, 40, 0.49, 0], confidence=0.5).confidence.tolist() == [0.5]


def test_a_stricter_iou_is_applied_here_and_a_laxer_one_is_the_graphs() -> None:
    rows = [10, 20, 30, 40, 0.9, 0], [11, 20, 31, 40, 0.8, 0]
    assert len(found(*rows, iou=0.5)) == 1
    assert len(found(*rows, iou=0.7)) == 2


def test_detections_are_sorted_best_first() -> None:
    assert found([0, 16, 9, 30, 0.3, 0], [20, 20, 30, 40, 0.8, 0]).confidence.tolist() == pytest.approx([0.8, 0.3])


def test_numbers_that_are_none_and_boxes_in_the_padding_go() -> None:
    hostile = [float("nan"), 20, 30, 40, 0.9, 0], [10, 20, float("inf"), 40, 0.9, 0], [10, 0, 30, 10, 0.9, 0]
    assert len(found(*hostile)) == 0


def test_absurd_numbers_stay_inside_their_types() -> None:
    detections = found([-1e38, -1e38, 1e38, 1e38, 0.9, 1e30], iou=0.5)
    assert detections.boxes.tolist() == [[0, 0, 128, 64]]
    assert to_table([detections], MODEL).to_pylist()[0]["class_name"] == "class 1000000"


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[84, 8400\]"):
        Detections.from_served(
            np.zeros((84, 8400), np.float32), Letterbox.fit(9, 9, 64), InferenceParams(), "a.jpg", None
        )


def test_rows_have_the_columns_of_the_contract() -> None:
    frame = found([10, 20, 30, 40, 0.9, 1], source="v.mp4", moment=Moment(3, 120.5))
    (row,) = to_table([frame], MODEL).to_pylist()
    assert list(row) == COLUMNS == SCHEMA.names
    assert (row["source"], row["frame"], row["timestamp_ms"]) == ("v.mp4", 3, 120.5)
    assert (row["class_name"], row["model_name"], row["model_version"]) == ("white", "cells", 7)


def test_a_table_keeps_the_order_and_leaves_the_frame_of_an_image_empty() -> None:
    pictures = [found([10, 20, 30, 40, 0.9, 1], source="b"), found(), found([10, 20, 30, 40, 0.5, 0], source="a")]
    table = to_table(pictures, MODEL)
    assert table.schema == SCHEMA
    assert table["source"].to_pylist() == ["b", "a"]
    assert table["frame"].null_count == 2
    assert to_table([], MODEL).num_rows == 0


def test_scaling_moves_boxes_with_the_picture() -> None:
    small = found([10, 20, 30, 40, 0.9, 1]).scaled(64, 32)
    assert small.boxes.tolist() == [[10, 4, 30, 24]]
    assert (small.width, small.height) == (64, 32)


def test_coco_says_left_top_width_height() -> None:
    picture = found([10, 20, 30, 40, 0.9, 1])
    (entry,) = annotation_entries(picture, image_id=4, first_id=9)
    assert entry["bbox"] == [20, 8, 40, 40]
    assert (entry["id"], entry["image_id"], entry["category_id"], entry["area"]) == (9, 4, 1, 1600)
    assert entry["score"] == pytest.approx(0.9)
    assert image_entry(picture, 4) == {"id": 4, "file_name": "a.jpg", "width": 128, "height": 64}
    assert categories(MODEL.class_names) == [{"id": 0, "name": "red"}, {"id": 1, "name": "white"}]


def test_results_are_whole_after_an_error_and_leave_no_temporary_file(tmp_path: Path) -> None:
    with suppress(RuntimeError), Results(tmp_path, MODEL) as results:
        results.add(found([10, 20, 30, 40, 0.9, 1], source="one"))
        results.add(found(source="two"))
        results.add(found([10, 20, 30, 40, 0.8, 0], source="v", moment=Moment(0, 0.0)))
        results.fail(Failure("three", "expected"))
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.parquet", "coco.json", "failures.jsonl"}
    assert pq.read_table(tmp_path / "predictions.parquet")["source"].to_pylist() == ["one", "v"]
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["one", "two", "v"]
    assert [entry["image_id"] for entry in coco["annotations"]] == [1, 3]
    assert json.loads((tmp_path / "failures.jsonl").read_text()) == {"input": "three", "reason": "expected"}


def test_results_without_pictures_are_whole_too(tmp_path: Path) -> None:
    with Results(tmp_path, MODEL):
        pass
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows == 0
    assert json.loads((tmp_path / "coco.json").read_text())["images"] == []


def test_the_tally_adds_up() -> None:
    tally = Tally(MODEL.class_names)
    picture = found([10, 20, 30, 40, 0.96, 1], [30, 20, 60, 40, 0.5, 1], [1, 20, 9, 40, 0.3, 0])
    tally.add(picture)
    tally.add(found(moment=Moment(0, 0.0)))
    tally.items.append(GalleryItem("a.jpg", "image", "t", None, 128, 64, 1, item_classes([picture])))
    tally.failures += [Failure("b", "x"), Failure("b", "y")]
    summary = tally.summary(seconds=0.5)
    assert isinstance(summary, InferenceSummary)
    assert (summary.inputs, summary.images, summary.frames, summary.detections) == (2, 1, 1, 3)
    assert summary.images_per_second == 4
    assert summary.classes == {"white": 2, "red": 1}
    assert sum(summary.histogram) == 3
    assert summary.histogram[19] == 1
    assert summary.failed_inputs == 1
    assert summary.failure_share == 0.5
    assert [(each.class_id, each.count) for each in summary.items[0].classes] == [(1, 2), (0, 1)]


@pytest.mark.parametrize(
    "source", ["../../etc/passwd", "/abs.jpg", "a\\..\\b", "x" * 5000, "ü 红.png", "", ".", "a\0b"]
)
def test_output_names_are_safe(source: str) -> None:
    stem = output_stem(source)
    assert stem == output_stem(source)
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert len(stem) < 100


def test_output_names_differ_where_sources_do() -> None:
    sources = ["a/x.jpg", "b/x.jpg", "x.jpg", "x.png", "X.jpg"]
    assert len({output_stem(source).lower() for source in sources}) == len(sources)

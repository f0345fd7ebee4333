"""The archive of what a model is sure of: valid for each task, with the origin of each label."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.dataset.findings import Verdict
from tasks.dataset.image_stats import ImageStats
from tasks.dataset.label_origins import LABEL_ORIGINS, Origin, unpack_label_origins
from tasks.dataset.yolo_archive import YoloArchive
from tasks.inference.results.parquet import schema, to_table
from tasks.inference.results.predicted_images import PredictedImage
from tasks.inference.usable_images import UsableImage
from tasks.inference.work_plan import MediaSource
from tasks.labelling import labelled_archive as kinds
from tasks.labelling.labelled_archive import LabelledArchive, Labeller, Labelling
from tasks.labelling.thresholds import LabelThreshold
from tasks.media.file_type import MediaKind
from tasks.merge.training_images import TrainingImages
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tasks.vision.detections import Detections
from tests.tasks.dataset.archives import image
from tests.tasks.inference.results.examples import model, picture

RUN = "0b8e5a34-6a3f-4f52-9e5a-1d7f0a4f1c11"
LABELLER = Labeller(
    model_name="cells",
    version=7,
    task="detect",
    class_names=("red", "white"),
    thresholds=(LabelThreshold(low=0.3, high=0.8, labels=9), LabelThreshold(low=0.3, high=None, labels=0)),
    learnt=TrainingImages(),
    asked=frozenset(),
    flow_run_id=RUN,
)


def found(task: str, classes: tuple[int, ...], confidence: tuple[float, ...]) -> PredictedImage:
    """What a run of inference tells of an image of 128 x 64 pixels."""
    detections = replace(picture(*classes, task=task), confidence=np.array(confidence, np.float32))
    if task == "classify":
        detections = Detections.empty(128, 64)
        whole = np.tile(np.array([0, 0, 128, 64], np.float32), (len(classes), 1))
        scores, ids = np.array(confidence, np.float32), np.array(classes, np.int32)
        detections = replace(detections, xyxy=whole, confidence=scores, class_id=ids)
    rows = to_table([detections], model(task), schema(task, tracked=False)).to_pylist()
    return PredictedImage(source="", width=128, height=64, model_version=7, rows=rows)


def labelled(
    path: Path,
    images: Mapping[str, PredictedImage],
    labeller: Labeller = LABELLER,
    *,
    background: bool = False,
    repeat: bool = False,
) -> Labelling:
    with YoloArchive(path, labeller.task) as zipped:
        archive = LabelledArchive(zipped, labeller, background=background)
        for number, (name, predicted) in enumerate(images.items()):
            data = image(width=128, height=64, seed=0 if repeat else number)
            source = MediaSource(
                name=f"s3://media/{name}", bucket="media", key=name, etag="1", size=1, kind=MediaKind.IMAGE
            )
            checksum = zlib.crc32(data), len(data)
            usable = UsableImage(data=data, ending=".jpg", checksum=checksum, stats=ImageStats(128, 64))
            archive.add(source, usable, replace(predicted, source=source.name))
        archive.finish({})
    return archive.labelling


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_what_is_sure_is_a_valid_archive_with_the_origin_of_each_label(task: str, tmp_path: Path) -> None:
    images = {f"{number}.png": found(task, (0, 0), (0.9, 0.85)) for number in range(12)}
    labelling = labelled(tmp_path / "a.zip", images, replace(LABELLER, task=task))
    assert labelling.images == {kinds.LABELLED: 12}
    assert labelling.taken == {"red": 12 if task == "classify" else 24}
    inspection = inspect_dataset(tmp_path / "a.zip", "a.zip", "aa", ValidationPolicy(), lambda *_: None)
    assert inspection.report.verdict is not Verdict.INVALID, inspection.report.findings
    assert inspection.report.statistics.task == task
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = [*unpack_label_origins(archive.read(LABEL_ORIGINS)).rows]
    assert len(rows) == (12 if task == "classify" else 24 + 12)  # and that nothing else is there
    assert {(each.origin, each.model_name, each.model_version, each.flow_run_id) for each in rows} == {
        (Origin.MODEL, "cells", 7, RUN)
    }
    assert {round(each.confidence or 0, 3) for each in rows if each.row == 0} == {0.9}
    assert len(labelling.exhibits[kinds.LABELLED]) == 12


def test_an_image_with_anything_in_doubt_waits_for_a_person(tmp_path: Path) -> None:
    images = {
        "sure.jpg": found("detect", (0, 1), (0.9, 0.2)),
        "between.jpg": found("detect", (0, 0), (0.9, 0.5)),
        "unknown.jpg": found("detect", (1,), (0.95,)),
        "nothing.jpg": found("detect", (0,), (0.2,)),
    }
    labelling = labelled(tmp_path / "a.zip", images)
    assert labelling.images == {kinds.LABELLED: 1, kinds.UNCERTAIN: 2, kinds.NOTHING_FOUND: 1}
    assert labelling.confidences == pytest.approx([0.9, 0.7, 0.95])
    assert (labelling.taken, labelling.unsure, labelling.dropped) == (
        {"red": 1},
        {"red": 1, "white": 1},
        {"white": 1, "red": 1},
    )
    assert [(each.source.key, each.reason) for each in labelling.listed] == [
        ("between.jpg", "red at 0.50, between 0.30 and 0.80"),
        ("unknown.jpg", "white at 0.95, and no confidence is known to be precise enough"),
        ("nothing.jpg", "nothing was found"),
    ]
    between, unknown = labelling.exhibits[kinds.UNCERTAIN]
    assert [(each.class_name, each.low, each.high) for each in between.doubts] == [("red", 0.3, 0.8)]
    assert [(each.class_name, each.low, each.high) for each in unknown.doubts] == [("white", 0.3, None)]
    assert unknown.doubts[0].confidences == pytest.approx([0.95])
    assert not any(each.doubts for each in labelling.exhibits[kinds.LABELLED])
    alone = labelled(tmp_path / "c.zip", {"nothing.jpg": images["nothing.jpg"]}, background=True)
    assert (alone.images[kinds.BACKGROUND], alone.archived) == (1, 0)
    background = labelled(tmp_path / "b.zip", images, background=True)
    assert background.images[kinds.BACKGROUND] == 1
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.read("labels/train/nothing.txt") == b""
        assert "images/train/nothing.jpg" in unpack_label_origins(archive.read(LABEL_ORIGINS)).pseudo_labelled


def test_of_many_images_in_which_nothing_is_found_some_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "LISTED_EMPTY", 2)
    labelling = labelled(tmp_path / "a.zip", {f"{number}.jpg": found("detect", (), ()) for number in range(5)})
    assert labelling.images == {kinds.NOTHING_FOUND: 2, kinds.UNLISTED: 3}
    assert len(labelling.listed) == 2


def test_the_class_of_an_image_as_a_whole_is_sure_or_waits(tmp_path: Path) -> None:
    labeller = replace(LABELLER, task="classify", thresholds=[replace(each, low=0) for each in LABELLER.thresholds])
    images = {
        "red.jpg": found("classify", (0, 1), (0.9, 0.1)),
        "doubt.jpg": found("classify", (0, 1), (0.6, 0.4)),
        "none.jpg": found("classify", (), ()),
    }
    labelling = labelled(tmp_path / "a.zip", images, labeller, background=True)
    assert labelling.images == {kinds.LABELLED: 1, kinds.UNCERTAIN: 2}
    assert [each.reason for each in labelling.listed] == ["red at 0.60, between 0.00 and 0.80", "no class is sure"]


def test_a_label_that_no_archive_may_have_fails_its_image_alone(tmp_path: Path) -> None:
    thin = found("detect", (0,), (0.9,))
    thin = replace(thin, rows=[{**thin.rows[0], "x2": thin.rows[0]["x1"]}])
    other = found("detect", (0,), (0.9,))
    other = replace(other, rows=[{**other.rows[0], "class_id": 5}])
    images = {"thin.jpg": thin, "other.jpg": other, "sure.jpg": found("detect", (0,), (0.9,))}
    labelling = labelled(tmp_path / "a.zip", images)
    assert labelling.images == {kinds.LABELLED: 1, kinds.FAILED: 1, kinds.NOTHING_FOUND: 1}
    assert labelling.taken == {"red": 1}
    assert "a width and a height above 0" in labelling.failures[0].reason


def test_a_class_that_is_no_name_of_a_folder_is_told(tmp_path: Path) -> None:
    labeller = replace(LABELLER, task="classify", class_names=("a/b", "white"))
    labelling = labelled(tmp_path / "a.zip", {"a.jpg": found("classify", (0,), (0.9,))}, labeller)
    assert labelling.images == {kinds.LABELLED: 1}
    assert [(each.source, "folder 'a_b'" in each.reason) for each in labelling.failures] == [("a/b", True)]


def test_what_was_learnt_or_asked_about_or_comes_twice_is_left_out(tmp_path: Path) -> None:
    images: dict[str, Any] = {name: found("detect", (0,), (0.9,)) for name in ("a.jpg", "b.jpg")}
    assert labelled(tmp_path / "a.zip", images, repeat=True).images == {kinds.LABELLED: 1, kinds.REPEATED: 1}
    seen = image(width=128, height=64, seed=1)
    learnt = TrainingImages(val=frozenset({(zlib.crc32(seen), len(seen))}))
    labelling = labelled(tmp_path / "b.zip", images, replace(LABELLER, learnt=learnt))
    assert labelling.images == {kinds.LABELLED: 1, kinds.LEARNT: 1}
    labelling = labelled(tmp_path / "c.zip", images, replace(LABELLER, asked=learnt.val))
    assert labelling.images == {kinds.LABELLED: 1, kinds.ASKED: 1}


HANGUL = "\u1112\u1161\u11ab"  # as macOS writes it: readers compose its three parts


@pytest.mark.parametrize(
    "name", [HANGUL, "\u212b", ".hidden", "._photo", "..", ".", " ", "a\x00b", "\ufeffa", "x" * 300]
)
def test_no_name_of_an_image_makes_the_archive_invalid(name: str, tmp_path: Path) -> None:
    path = tmp_path / "more.zip"
    assert (
        labelled(path, {f"{each}.jpg": found("detect", (0,), (0.9,)) for each in ("plain", name)}).images["labelled"]
        == 2
    )
    dataset = inspect_dataset(path, "more.zip", "0" * 64, ValidationPolicy())
    assert dataset.report.verdict is not Verdict.INVALID, dataset.report.findings


@pytest.mark.parametrize("name", [HANGUL, "images", "Labels", "__MACOSX", ".hidden", "..", "a/b"])
def test_no_name_of_a_class_makes_a_tree_invalid(name: str, tmp_path: Path) -> None:
    path = tmp_path / "more.zip"
    labeller = replace(LABELLER, task="classify", class_names=(name, "white"))
    assert labelled(path, {"plain.jpg": found("classify", (0, 1), (0.9, 0.1))}, labeller).images["labelled"] == 1
    dataset = inspect_dataset(path, "more.zip", "0" * 64, ValidationPolicy())
    assert dataset.report.verdict is not Verdict.INVALID, dataset.report.findings

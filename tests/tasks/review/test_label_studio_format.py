"""What Label Studio is told comes back through the reader of its exports as it was."""

import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from defusedxml import ElementTree

from tasks.dataset.findings import Verdict
from tasks.dataset.label_origins import Origin
from tasks.dataset.yolo_archive import add_label_origins
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy
from tasks.review.changes import Change
from tasks.review.class_names import ClassNameError
from tasks.review.comparison import compare_with_archive
from tasks.review.label_studio_format import labelling_configuration, to_results
from tasks.review.rounds import name_entries, pack_round, to_shapes, unpack_round
from tasks.validation.dataset_check import inspect_dataset
from tests.tasks.review.rounds import CLASS_NAMES, HEIGHT, WIDTH, returned, review_round

ENTRIES = ("media/day/1.jpg", "media/night/1.jpg", "media/2.jpg")
RUN = "22222222-2222-2222-2222-222222222222"


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose", "classify"])
def test_what_is_submitted_as_it_was_suggested_is_accepted(task: str, tmp_path: Path) -> None:
    """Also a shape that reaches beyond its image, names that XML has signs for, and images of one name."""
    review = unpack_round(pack_round(review_round(task, *ENTRIES)))
    summary = returned(tmp_path, review)
    suggested = len(to_shapes(task, review.images[0]))
    compared = compare_with_archive(tmp_path / "back.zip", review, summary.class_names, {ENTRIES[0]: 4.0}, RUN)
    totals, origins = compared.totals, compared.origins
    assert summary.images == {"train": 3}
    assert summary.class_names == CLASS_NAMES
    assert (totals.changes, totals.untouched) == ({Change.ACCEPTED: 3 * suggested}, 3)
    assert totals.seconds == [4.0]
    assert not compared.most_changed
    told = Counter((each.origin, each.model_name, each.model_version, each.flow_run_id) for each in origins)
    assert told.pop((Origin.HUMAN, None, None, RUN), 0) == (0 if task == "classify" else 3)
    assert told == {(Origin.ACCEPTED, "cells", 3, RUN): 3 * suggested}
    assert [each.confidence for each in origins if each.origin is Origin.ACCEPTED] == [0.75] * (3 * suggested)


def codes(archive: Path) -> set[str]:
    """What the check finds."""
    inspection = inspect_dataset(archive, archive.name, "0" * 64, ValidationPolicy.model_validate({}))
    return {each.code for each in inspection.report.findings}


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose", "classify"])
def test_an_archive_that_people_have_reviewed_needs_no_val(task: str, tmp_path: Path) -> None:
    review = review_round(task, *ENTRIES)
    summary = returned(tmp_path, review)
    path = tmp_path / "back.zip"
    compared = compare_with_archive(path, review, summary.class_names, {}, RUN)
    assert Code.SPLIT_MISSING in codes(path)
    add_label_origins(path, compared.origins)
    assert not {Code.SPLIT_MISSING, Code.LABEL_ORIGINS_BROKEN} & codes(path)


def test_a_keypoint_that_nobody_shows_keeps_its_place(tmp_path: Path) -> None:
    """Point 2 of 3 is drawn in no image."""
    review = review_round("pose", *ENTRIES)
    returned(tmp_path, review)
    with zipfile.ZipFile(tmp_path / "back.zip") as back:
        labels = [back.read(name).decode().split() for name in back.namelist() if name.endswith(".txt")]
    assert {len(row) for row in labels} == {1 + 4 + 3 * 3}
    assert [row[9:11] for row in labels] == [["0", "0"]] * 3


def test_the_labelling_interface_shows_why_an_image_is_asked_about() -> None:
    review = review_round("detect", *ENTRIES)
    assert ElementTree.fromstring(labelling_configuration(review)).find("Text") is None
    listed = replace(review, images=tuple(replace(each, reason="unsure") for each in review.images))
    text = ElementTree.fromstring(labelling_configuration(listed)).find("Text")
    assert text is not None
    assert text.get("value") == "$why"


def test_the_labelling_interface_is_xml_whatever_the_classes_are_called() -> None:
    names = ["<!DOCTYPE x>", "]]>", "'\"&amp;", "$image", "日本"]
    review = replace(review_round("detect"), class_names=tuple(names))
    root = ElementTree.fromstring(labelling_configuration(review))
    assert [each.get("value") for each in root.iter("Label")] == names
    for name in ("", " cell", "a\x00b", "a\nb"):
        with pytest.raises(ClassNameError, match="Rename"):
            labelling_configuration(replace(review, class_names=("cell", name)))


def test_rotated_boxes_are_turned_round_their_first_corner() -> None:
    review = review_round("obb", "a.jpg")
    (first, *_) = to_results(to_shapes("obb", review.images[0]), WIDTH, HEIGHT)
    value = first["value"]
    assert (value["x"], value["y"]) == (50, 20)
    assert value["rotation"] == pytest.approx(np.degrees(np.arctan2(20, 30)))
    assert (value["width"] * 2, value["height"]) == (pytest.approx(36.06, abs=0.01), pytest.approx(18.03, abs=0.01))


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_a_round_whose_suggestions_are_all_refused_teaches_that_nothing_is_there(task: str, tmp_path: Path) -> None:
    """It is a valid archive; of poses the labelling interface tells how many keypoints they would have."""
    review = review_round(task, "a.jpg", "b.jpg")
    summary = returned(tmp_path, review, lambda *_: [])
    assert (summary.images, summary.changes) == ({"train": 2}, {})
    compared = compare_with_archive(tmp_path / "back.zip", review, summary.class_names, {}, review.predictions_run)
    add_label_origins(tmp_path / "back.zip", compared.origins)
    with zipfile.ZipFile(tmp_path / "back.zip") as archive:
        described = yaml.safe_load(archive.read("data.yaml"))
    assert described.get("kpt_shape") == ([3, 3] if task == "pose" else None)
    checked = inspect_dataset(tmp_path / "back.zip", "back.zip", "0" * 64, ValidationPolicy())
    assert checked.report.verdict is Verdict.VALID, checked.report.findings


def test_entries_are_safe_and_of_one_image_each() -> None:
    """Whatever their endings become."""
    named = [
        "s3://media/../a b.jpg",
        "s3://media/x.zip/1?#%.jpg",
        "s3://media/A.jpg",
        "s3://media/a.JPG",
        "s3://m/🙂.png",
        "s3://m/.hidden.png",
        "s3://m/\u1112\u1161\u11ab.png",  # as macOS writes it: readers compose its three parts
        "s3://m/2-x_.jpg",
        "s3://m/x:.jpg",
        "s3://m/x?.jpg",
        "s3://m/x_.gif",
        "s3://m/day.1",
        "s3://m/ a.jpg",
        "s3://m/__MACOSX/a.jpg",
    ]
    of_media = ["media/_/a b", "media/x.zip/1___", "media/A", "media/2-a"]
    of_m = ["m/_", "m/hidden", "m/\ud55c", "m/2-x_", "m/x_", "m/3-x_", "m/4-x_", "m/day.1", "m/a", "m/___MACOSX/a"]
    assert name_entries(named) == of_media + of_m
    long = name_entries([f"s3://media/{'c' * 50}../{'b' * length}.jpg" for length in range(180, 200)] * 2)
    assert all(len(entry) <= 210 and not entry.startswith(".") for entry in long)
    assert len({*long}) == 40

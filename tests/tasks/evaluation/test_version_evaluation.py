"""A version that finds what is labelled gets all figures right, for every task; and what its page shows."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tasks.dataset.image_stats import ImageStats
from tasks.errors import StudioError
from tasks.evaluation import page
from tasks.evaluation.confusion import BACKGROUND
from tasks.evaluation.corruption import ALL_CORRUPTIONS
from tasks.evaluation.labelled_images import EvaluationSet, join_sets, label_detections, read_val_split, unpack_split
from tasks.evaluation.pictures import draw_sides, sort_objects
from tasks.evaluation.prediction_file import read_predictions, write_predictions
from tasks.evaluation.promise import Promise
from tasks.evaluation.robustness import Robustness
from tasks.evaluation.version_evaluation import VersionEvaluation, evaluate_version, measure_robustness
from tasks.merge.steps import ValidArchive
from tasks.parameters import EvaluationParams
from tasks.vision.detections import Detections, pack_masks
from tests.tasks.dataset.archives import image, zipped
from tests.tasks.merge.archives import dataset, merge, tree

SIDE = 64
HOSTILE = "<script>alert(1)</script>"
CLASSES = ("cat", HOSTILE)
ROWS = {
    "detect": "0.5 0.5 0.5 0.25",
    "segment": "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.5",
    "obb": "0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5",
    "pose": "0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.6 1",
}
PARAMS = EvaluationParams()


def unpacked(folder: Path, task: str, images: int = 4) -> EvaluationSet:
    """Images with one object each, of both classes in turn."""
    stats = {}
    entries: dict[str, Any] = {}
    for number in range(images):
        folder_of_class = ("cat", "dog")[number % 2]
        name = f"val/{folder_of_class}/{number}.jpg" if task == "classify" else f"val/images/{number}.jpg"
        entries[name] = image(width=SIDE, height=SIDE, seed=number)
        stats[name] = ImageStats(SIDE, SIDE, thumbnail=bytes([30 * number] * 256))
        if task == "classify":
            entries[f"train/{folder_of_class}/{number}.jpg"] = entries[name]
        else:
            entries[f"val/labels/{number}.txt"] = f"{number % 2} {ROWS[task]}\n"
    if task != "classify":
        keypoints = "kpt_shape: [2, 3]\n" if task == "pose" else ""
        splits = "path: .\ntrain: val/images\nval: val/images\n"
        entries["data.yaml"] = f"{splits}task: {task}\n{keypoints}names: {[*CLASSES]}\n"
    folder.mkdir(exist_ok=True)
    path = folder / "a.zip"
    path.write_bytes(zipped(entries))
    archive = ValidArchive(name="a.zip", path=path, task=task, images=stats, digest="d1")
    return unpack_split(archive, "val", folder / "images")


def perfect(data: EvaluationSet, task: str) -> list[Detections]:
    """What is labelled, in the form in which the model of a task says it."""
    found = []
    for each in data.images:
        labels = label_detections(each, data, task, SIDE, SIDE)
        if task == "classify":
            scores = np.eye(len(data.class_names), dtype=np.float32)[labels.class_id[0]] * 0.8 + 0.1
            found.append(Detections.empty(SIDE, SIDE, class_scores=scores))
            continue
        if task == "segment":
            masks = np.zeros((len(labels), SIDE, SIDE), np.uint8)
            for mask, ring in zip(masks, labels.polygons or (), strict=True):
                cv2.fillPoly(mask, [np.round(ring - 0.5).astype(np.int32)], 1)
            labels = replace(labels, mask=pack_masks(masks))
        found.append(replace(labels, polygons=None, confidence=np.full(len(labels), 0.9, np.float32)))
    return found


def evaluated(
    data: EvaluationSet, task: str, found: Sequence[Detections], names: Sequence[str] = (), **params: Any
) -> VersionEvaluation:
    names = names or data.class_names
    return evaluate_version(3, task, names, data, found, EvaluationParams.model_validate(params))


@pytest.mark.parametrize("task", [*ROWS, "classify"])
def test_a_version_that_finds_all_labels_has_the_best_figures(task: str, tmp_path: Path) -> None:
    data = unpacked(tmp_path, task)
    write_predictions(tmp_path / "found.zip", perfect(data, task))
    result = evaluated(data, task, list(read_predictions(tmp_path / "found.zip")))
    assert result.metrics.overall.primary == pytest.approx(1.0, abs=0.11 if task == "segment" else 1e-9)
    assert {number: own.labels for number, own in result.metrics.by_class.items()} == {0: 2, 1: 2}
    assert [threshold.confidence for threshold in result.thresholds.values()] == pytest.approx([0.9, 0.9])
    assert result.mistakes == (0, 0, 0, 0)
    assert {cell: len(images) for cell, images in result.confusion.cells.items()} == {(0, 0): 2, (1, 1): 2}
    assert {each.slice.by for each in result.slices} == {"brightness"}


def test_a_detector_is_measured_on_the_boxes_around_outlines_and_nothing_else_fits(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "segment")
    assert evaluated(data, "detect", perfect(data, "detect")).metrics.overall.primary == pytest.approx(1.0)
    with pytest.raises(
        StudioError, match=r"archive for the task pose of version 3, found a.zip, split val, labelled for segment"
    ):
        evaluated(data, "pose", [])


def test_classes_meet_by_name_and_those_of_one_side_are_left_out(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    found = [
        replace(each, class_id=np.where(each.class_id == 0, 1, 0).astype(np.int32)) for each in perfect(data, "detect")
    ]
    result = evaluated(data, "detect", found, ["dog", "Cats"])  # its dogs are the archive's other class
    assert result.left_out == ("dog", HOSTILE)
    assert (result.metrics.overall.labels, result.metrics.overall.primary) == (2, 1.0)
    with pytest.raises(StudioError, match="a class that the version and the archive share"):
        evaluated(data, "detect", found, ["bird", "dog"])


@pytest.mark.parametrize(
    ("names", "of_cat", "of_dog", "cells"),
    [
        (["cat", "dog", "ox"], [0.2, 0.1, 0.7], [0, 1, 0], {(0, BACKGROUND): 2, (1, 1): 2}),
        (["cat", "ox"], [0.7, 0.3], [0.8, 0.2], {(0, 0): 2}),  # dogs are unknown to it, so their images are left out
    ],
)
def test_an_image_is_taken_for_the_best_of_all_classes_that_a_version_knows(
    names: list[str], of_cat: list[float], of_dog: list[float], cells: dict[tuple[int, int], int], tmp_path: Path
) -> None:
    data = unpacked(tmp_path, "classify")
    scores = [np.array((of_cat, of_dog)[each.class_id or 0], np.float32) for each in data.images]
    result = evaluated(data, "classify", [Detections.empty(SIDE, SIDE, class_scores=each) for each in scores], names)
    assert {cell: len(images) for cell, images in result.confusion.cells.items()} == cells


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_a_slice_is_compared_with_its_own_classes_on_all_images(task: str, tmp_path: Path) -> None:
    data = unpacked(tmp_path, task, images=8)
    turns = sorted(data.images, key=lambda each: Path(each.name).stem)  # a cat and a dog in turn
    groups = ("mixed", "mixed", "cats", "mixed", "cats", "dogs", "cats", "dogs")
    named = (replace(each, name=f"{group}-1.jpg") for each, group in zip(turns, groups, strict=True))
    data = replace(data, images=tuple(named))

    def differences(*missed: int) -> dict[str, float]:
        found = perfect(data, task)
        for number in missed:
            scores = found[number].class_scores
            found[number] = Detections.empty(SIDE, SIDE, class_scores=None if scores is None else scores[::-1])
        slices = evaluated(data, task, found, groups=["{group}-*.jpg"]).slices
        return {each.slice.name: each.difference or 0.0 for each in slices if each.slice.name in groups}

    assert differences(1, 5) == pytest.approx(dict.fromkeys(groups, 0.0), abs=1e-9)
    assert differences(5, 7)["dogs"] == pytest.approx(-0.5, abs=0.01)


def test_each_archive_is_a_slice_and_thresholds_have_the_names_of_the_version(tmp_path: Path) -> None:
    first, other = (unpacked(tmp_path / name, "detect") for name in ("a", "b"))
    swapped = replace(
        other,
        digests={"b.zip": "d2"},
        class_names=CLASSES[::-1],
        images=tuple(replace(each, archive="b.zip") for each in other.images),
    )
    data = join_sets([first, swapped], {})
    result = evaluated(data, "detect", perfect(data, "detect"), ["Cats", HOSTILE])
    slices = {each.slice.name: each for each in result.slices if each.slice.by == "archive"}
    assert {name: each.metrics.overall.labels for name, each in slices.items()} == {"a.zip": 4, "b.zip": 4}
    assert [each.class_id for each in data.images[4].rows] == [1]
    assert list(page.threshold_facts(result)) == ["Cats", HOSTILE]
    with pytest.raises(StudioError, match=r"archives of one task.*found detect in a.zip.*segment in a.zip"):
        join_sets([first, unpacked(tmp_path / "c", "segment")], {})


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_classes_get_the_names_with_which_a_version_was_trained(tmp_path: Path, task: str) -> None:
    other = "dog" if task == "classify" else HOSTILE
    own = unpacked(tmp_path, task)
    data = join_sets([own], {"*": "item", other: None})
    assert data.class_names == ("item",)
    result = evaluated(data, task, perfect(data, task), ["item"])
    assert (result.metrics.overall.labels, result.metrics.overall.primary) == (2, 1.0)
    assert len(data.images) == (2 if task == "classify" else 4)
    with pytest.raises(StudioError, match=r"Expected classes of the archives in evaluation.classes, found .*ox"):
        join_sets([own], {"ox": "item"})
    with pytest.raises(StudioError, match=r"renames classes by evaluation.classes"):
        evaluated(own, task, perfect(own, task), ["item"])


def test_a_class_that_an_archive_does_not_label_is_not_false_on_its_images(tmp_path: Path) -> None:
    first, other = (unpacked(tmp_path / name, "detect") for name in ("a", "b"))
    cats = replace(
        other,
        digests={"b.zip": "d2"},
        class_names=CLASSES[:1],
        images=tuple(each for each in other.images if each.rows[0].class_id == 0),
    )
    data = join_sets([first, cats], {})
    found = perfect(data, "detect")
    both = [replace(found[-1], class_id=np.array([1], np.int32))]
    result = evaluated(data, "detect", [*found[:-1], *both])
    assert result.mistakes == (0, 0, 0, 0, 0, 1)
    assert result.confusion.count(0, BACKGROUND) == 1  # missed, and what is found there is not false


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_what_is_lost_on_corrupted_images_is_measured(task: str, tmp_path: Path) -> None:
    contents = (
        [tree(0), tree(20)] if task == "classify" else [dataset(0, "cat, dog", task), dataset(20, "ox, dog", task)]
    )
    merged = merge(tmp_path, *contents)[1]
    data = read_val_split(merged.data, task, merged.class_names)
    assert len(data.images) == 4
    found = perfect(data, task)
    lost = [replace(each, class_scores=np.eye(len(data.class_names))[0]) for each in found]
    if task != "classify":
        lost = [each.select(np.zeros(len(each), np.bool_)) for each in found]
    corrupted = replace(data, images=data.images * 46)
    kept = measure_robustness(task, merged.class_names, corrupted, found * 46)
    clean = kept.clean.overall.primary
    assert kept.images == 4
    assert kept.mean == pytest.approx(clean)
    assert (clean or 0) > 0.75  # small outlines lose some of their masks
    blind = measure_robustness(task, merged.class_names, corrupted, found + lost * 45)
    assert (blind.clean, blind.mean) == (kept.clean, 0.5 if task == "classify" else 0)
    (first, *_) = blind.clean.by_class
    assert blind.over([first]).clean.overall == blind.clean.by_class[first]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"bird": 0.1}, r"found \['bird'\], which a.zip, split val lacks. Both know \['cat'\]"),
        ({HOSTILE: 0.1, "cat": 0.1}, r"found \['<script>.*'\], which version 3 lacks"),
        ({HOSTILE: 0.1, "dog": 0.1}, r"'\], which version 3 lacks and \['dog'\], which a.zip, split val lacks"),
    ],
)
def test_a_promise_of_a_class_that_one_side_lacks_is_refused(
    asked: dict[str, float], found: str, tmp_path: Path
) -> None:
    data = unpacked(tmp_path, "detect")
    with pytest.raises(StudioError, match=found):
        evaluated(data, "detect", [], names=("cat", "dog"), max_misses=asked)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    unpacked(tmp_path, "detect")
    archive = ValidArchive(name="a.zip", path=tmp_path / "a.zip", task="detect", images={}, digest="d1")
    with pytest.raises(StudioError, match=r"images in split test of 'a.zip', found \['train', 'val'\]"):
        unpack_split(archive, "test", tmp_path / "other")


def test_the_page_shows_each_mistake_and_runs_nothing(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    found = perfect(data, "detect")
    wrong = [replace(found[0], class_id=np.array([1], np.int32)), found[1].select(np.zeros(1, bool)), *found[2:]]
    first = evaluated(data, "detect", wrong, max_misses={"cat": 0.05})
    html = page.evaluation_page("shapes", data, [first, evaluated(data, "detect", found)], [HOSTILE], 50)
    assert HOSTILE not in html
    assert not re.search(r"<script|style=|https?:", html)
    links = set(re.findall(r'href="#(cell-\d+-\d+)"', html))
    assert links == set(re.findall(r'id="(cell-\d+-\d+)"', html)) == {"cell-1-2", "cell-2-3"}
    assert html.count("version 3: 1 of another class<") == html.count("version 3: 1 missed<") == 1
    assert html.count("version 3: no mistake<") == 2  # of the other version
    assert "Not promised: at most 5 % of the objects of class cat are missed. Here 1 of 2 were missed" in html
    facts = json.loads(json.dumps(page.evaluation_facts("shapes", data, [first])))
    (own,) = facts["versions"]
    assert own["mistakes"] == [
        {"archive": "a.zip", "image": f"val/images/{number}.jpg", "count": 1} for number in range(2)
    ]
    assert {"true": "cat", "found": HOSTILE, "count": 1} in own["confusion"]
    metrics = page.evaluation_metrics(data, first)
    assert metrics["evaluation/a.zip/val/mAP50"] == pytest.approx(first.metrics.overall.values["mAP50"])
    assert HOSTILE not in page.evaluation_markdown("shapes", data, [first], [HOSTILE], kept=True)


def test_a_bad_image_says_how_much_was_missed_false_or_of_another_class(tmp_path: Path) -> None:
    """Found twice is false, and so is what lies off every label."""
    data = unpacked(tmp_path, "detect")
    (first, *others) = perfect(data, "detect")
    boxes = np.concatenate([first.xyxy, first.xyxy + 1, first.xyxy - 16])
    crowd = replace(
        first, xyxy=boxes, confidence=np.array([0.9, 0.85, 0.8], np.float32), class_id=np.array([1, 1, 0], np.int32)
    )
    result = evaluated(data, "detect", [crowd, *others])
    result = replace(result, confidence=dict.fromkeys(result.confidence, 0.5))
    assert sort_objects(result, 0).mistakes == "1 of another class, 2 false"
    result = replace(result, confidence=dict.fromkeys(result.confidence, 0.95))
    assert sort_objects(result, 0).mistakes == "1 missed"


@pytest.mark.parametrize(("task", "words"), [("detect", "COCO's metrics"), ("classify", "count each image once")])
def test_the_page_of_a_refusal_says_which_of_two_figures_is_which(tmp_path: Path, task: str, words: str) -> None:
    data = unpacked(tmp_path, task)
    both = [evaluated(data, task, perfect(data, task))] * 2
    refusal = page.Refusal(reasons=["Expected a score."], falls=())
    html = unescape(page.evaluation_page("shapes", data, both, [], 0, refusal))
    assert f"All other figures of this page {'are ' if task == 'detect' else ''}{words}" in html
    assert "All other figures" not in page.evaluation_page("shapes", data, both, [], 0)


def test_the_page_says_by_what_images_are_not_cut_because_they_are_alike(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    grey = data.images[0].stats._replace(thumbnail=bytes([90] * 256))
    alike = replace(data, images=tuple(replace(each, stats=grey) for each in data.images))
    for images, told in ((data, "sharpness"), (alike, "brightness (90 of 255), sharpness")):
        html = page.evaluation_page("shapes", images, [evaluated(images, "detect", perfect(images, "detect"))], [], 0)
        assert f"All images are alike in {told} (1.00), image size (0.0041 megapixels), labels in the image (1)" in html


def test_versions_with_different_classes_are_compared_over_those_that_all_know(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    cats = [each.select(each.class_id == 0) for each in perfect(data, "detect")]
    both = [
        replace(
            each,
            robustness=Robustness(images=4, clean=each.metrics, corrupted=dict.fromkeys(ALL_CORRUPTIONS, each.metrics)),
        )
        for each in (evaluated(data, "detect", cats), evaluated(data, "detect", cats, [CLASSES[0]]))
    ]
    row = "mAP50-95 over the classes that all versions know"
    html = page.evaluation_page("shapes", data, both, [], 0)
    assert f'<th scope="row">{row}</th><td>1.000</td><td>1.000</td>' in html
    assert '<th scope="row">mAP50-95</th><td>0.500</td><td>1.000</td>' in html
    assert len(re.findall(r"<bdi>brightness</bdi>.*<td>(1.000</td><td>1.000|-</td><td>-)</td>", html)) == 3
    assert '<th scope="row">fog</th>' + "<td>1.000</td>" * 6 in html
    assert f"| {row} | 1.000 | 1.000 |" in page.evaluation_markdown("shapes", data, both, [], kept=True)
    scores = "version 3 1.000, version 3 1.000 over the classes that all versions know"
    assert page.evaluation_sentence("shapes", data, both) == f"shapes on a.zip, split val: mAP50-95 {scores} (4 images)"
    assert "that all" not in page.evaluation_sentence("shapes", data, both[:1])


@pytest.mark.parametrize(
    ("confidence", "told", "kept"),
    [
        (0.4, "the threshold of the class, 0.400, keeps it.", 0.4),
        (0.9, "the threshold of the class, 0.900, does not, so the version is given 0.456 in its place.", 0.456),
    ],
)
def test_the_threshold_of_a_class_keeps_its_promise(tmp_path: Path, confidence: float, told: str, kept: float) -> None:
    data = unpacked(tmp_path, "detect")
    promise = Promise(share=0.05, threshold=0.4567, labels=100, missed=1, bound=0.049, missing_labels=0)
    result = evaluated(data, "detect", perfect(data, "detect"))
    thresholds = {**result.thresholds, 0: replace(result.thresholds[0], confidence=confidence)}
    counted = {**result.confidence, 0: kept}
    result = replace(result, promises={0: promise}, thresholds=thresholds, confidence=counted)
    html = page.evaluation_page("shapes", data, [result], [], 0)
    assert told in unescape(html)
    assert "from confidence 0.456 on" in html
    facts = page.threshold_facts(result)
    assert facts["cat"]["confidence"] == kept
    assert facts[HOSTILE]["confidence"] == result.thresholds[1].confidence


def test_pictures_and_confusion_count_from_where_confidence_auto_does(tmp_path: Path) -> None:
    """The second cat is below the threshold of its class, and the promise needs it: so it is found, on the page too."""
    data = unpacked(tmp_path, "detect")
    sure, dog, unsure, other = perfect(data, "detect")
    unsure = replace(unsure, confidence=np.array([0.3], np.float32))
    boxes = dog.xyxy + np.array([[20], [-20], [16]], np.float32)
    false = replace(dog, xyxy=boxes, confidence=np.full(3, 0.5, np.float32), class_id=np.zeros(3, np.int32))
    found = [sure, false, unsure, other]
    own = evaluated(data, "detect", found)
    promised = evaluated(data, "detect", found, max_misses={"cat": 0.9})
    assert own.thresholds[0].confidence == own.confidence[0] == pytest.approx(0.9)
    assert (own.confusion.count(0, 0), own.confusion.count(0, BACKGROUND)) == (1, 1)
    assert promised.thresholds == own.thresholds
    assert (
        promised.confidence[0] == pytest.approx(0.3, abs=0.001) == page.threshold_facts(promised)["cat"]["confidence"]
    )
    assert (promised.confusion.count(0, 0), promised.confusion.count(BACKGROUND, 0)) == (2, 3)
    assert sort_objects(promised, 2).mistakes == "no mistake"
    html = page.evaluation_page("shapes", data, [promised], [], 5)
    assert "<td>0.900 (" in html
    assert ", promised from 0.300</td>" in html


def test_the_page_of_a_version_that_finds_nothing_gives_it_no_calibration(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    nothing = [each.select(np.zeros(len(each), np.bool_)) for each in perfect(data, "detect")]
    html = page.evaluation_page("shapes", data, [evaluated(data, "detect", nothing)], [], 1)
    assert "<dd>no detections</dd>" in html
    assert "no detections (version 3)" in html


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose", "classify"])
def test_pictures_tell_right_wrong_and_missed_objects_apart(tmp_path: Path, task: str) -> None:
    data = unpacked(tmp_path, task)
    found = perfect(data, task)
    whole = sort_objects(evaluated(data, task, found), 0)
    assert [len(each) for each in whole] == [1, 0, 0, 0]
    assert whole.mistakes == "no mistake"
    if task == "classify":
        return
    wrong = replace(found[0], class_id=1 - found[0].class_id)
    nothing = found[1].select(np.zeros(len(found[1]), np.bool_))
    result = evaluated(data, task, [wrong, nothing, *found[2:]])
    assert [[len(each) for each in sort_objects(result, number)] for number in (0, 1)] == [[0, 1, 0, 0], [0, 0, 0, 1]]
    picture = draw_sides(data, [result], 1, data.class_names)
    assert picture.found[0][1] == "1 missed"
    jpeg = base64.b64decode(picture.found[0][2].partition(",")[2])
    assert Image.open(BytesIO(jpeg)).size == (400, 400)  # the file has 64, and letters would hide it

"""What people see of a comparison."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.dataset.validation_sample import ValidationSample
from tasks.parameters import ParityPolicy
from tasks.serving.parity.precisions import PrecisionChoice, PrecisionTrial
from tasks.serving.parity.report import draw_frontier, parity_markdown, parity_page
from tasks.serving.parity.rules import ParityReport, compare_predictions
from tasks.serving.parity.visuals import MAX_IMAGES, draw_worst
from tasks.vision.detections import Detections, pack_masks
from tests.tasks.serving.parity.builders import HEIGHT, WIDTH, found, grid, sample, scores

HOSTILE = "<script>alert(1)</script>"


def pictured(folder: Path, images: int, task: str = "detect") -> ValidationSample:
    path = folder / "image.png"
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return replace(own := sample(images, task), images=tuple(replace(each, path=path) for each in own.images))


def judge(one: list[Detections], other: list[Detections], own: ValidationSample) -> ParityReport:
    return compare_predictions(one, other, own, (scores(0.5, own.task), scores(0.3, own.task)), ParityPolicy())


def test_the_page_says_verdict_reasons_and_figures(tmp_path: Path) -> None:
    own = pictured(tmp_path, 2)
    sides = [found(*grid(60)), found()], [found(*grid(30)), found()]
    parity = judge(*sides, own)
    exhibits = draw_worst(parity, own, *sides)
    page = parity_page(parity, exhibits, HOSTILE)
    assert HOSTILE not in page
    assert 'class="verdict failed"' in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert "60 compared, 30 without a partner" in page
    assert "1 of 2 images show no difference" in page
    assert len(parity.reasons) == 2
    assert all(reason.split(",")[0] in page for reason in parity.reasons)


def test_the_precisions_that_were_tried_are_a_table_and_a_picture() -> None:
    own = sample(2)
    sides = [found(*grid(60)), found(*grid(60))], [found(*grid(60)), found(*grid(20))]
    passed, refused = judge(sides[0], sides[0], own), judge(*sides, own)
    passed = replace(passed, served=passed.reference)
    choice = PrecisionChoice(
        trials=(
            PrecisionTrial(precision="f32", parity=passed, rates=(10.0,)),
            PrecisionTrial(precision="bf16", parity=passed, rates=(20.0,)),
            PrecisionTrial(precision="int8", parity=refused, rates=(30.0,)),
            PrecisionTrial(precision="f16", left_out=HOSTILE),
        )
    )
    page = parity_page(choice.judged, [], "title", choice)
    assert HOSTILE not in page
    assert page.count("<circle ") == 3
    for kind, name in (("passed", "f32"), ("chosen", "bf16"), ("refused", "int8")):
        assert re.search(f'<g class="{kind}"><title>{name}: ', page)
    markdown = parity_markdown(choice.judged, "title", "", choice)
    assert HOSTILE not in markdown
    assert "bf16: Serves" in markdown
    points = {point.name: point for point in draw_frontier(choice).points}
    assert points["f32"].x < points["bf16"].x < points["int8"].x
    assert points["int8"].y > points["bf16"].y == points["f32"].y


def test_the_worst_images_come_first_and_are_few(tmp_path: Path) -> None:
    own = pictured(tmp_path, MAX_IMAGES + 3)
    lone = [[found(*grid(at))] for at in range(MAX_IMAGES + 3)]
    sides = [each[0] for each in lone], [found()] * (MAX_IMAGES + 3)
    exhibits = draw_worst(judge(*sides, own), own, *sides)
    assert [each.name for each in exhibits] == [f"{at}.jpg" for at in range(MAX_IMAGES + 2, 2, -1)]


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("segment", {"mask": pack_masks(np.ones((1, 64, 64), bool))}),
        ("pose", {"keypoints": [[[20, 20, 1], [30, 30, 0.1]]]}),
        ("obb", {"xywhr": [[40, 40, 30, 10, 0.7]]}),
    ],
)
def test_shapes_of_every_task_are_drawn(tmp_path: Path, task: str, more: dict[str, object]) -> None:
    own = pictured(tmp_path, 1, task)
    one = found([20, 20, 60, 60, 0.9, 1], **more)
    (exhibit,) = draw_worst(judge([one], [found()], own), own, [one], [found()])
    assert exhibit.reference.uri != exhibit.served.uri


def test_a_classifier_shows_what_both_say(tmp_path: Path) -> None:
    own = pictured(tmp_path, 1, "classify")
    one, other = (
        Detections.empty(WIDTH, HEIGHT, class_scores=np.array(each, np.float32)) for each in ((0.9, 0.1), (0.2, 0.8))
    )
    sides = [one], [other]
    parity = judge(*sides, own)
    page = parity_page(parity, draw_worst(parity, own, *sides), "model")
    assert "cat 0.900" in page
    assert "dog 0.800" in page


def test_markdown_has_the_same(tmp_path: Path) -> None:
    parity = judge([found(*grid(60))], [found(*grid(30))], pictured(tmp_path, 1))
    page = parity_markdown(parity, f"{HOSTILE} 3")
    assert HOSTILE not in page
    assert "| detections with a partner | 60 of 90 |" in page
    assert "not as its weights" in page

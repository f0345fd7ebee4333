"""The score of judged images is COCO's."""

import numpy as np
import pytest

from tasks.evaluation.coco_metrics import coco_metrics
from tasks.evaluation.matching import LEAST_CONFIDENCE
from tasks.evaluation.overlaps import compare_image
from tasks.monitoring.judged_images import judge_images, mean_average_precision
from tests.tasks.evaluation.pictures import draw_pair


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_mean_average_precision_is_that_of_coco(task: str) -> None:
    rng = np.random.default_rng(3)
    images = [compare_image(*draw_pair(rng, task), task) for _ in range(40)]
    judged = judge_images(images, [None] * len(images), 3)
    assert judged.profile.confidence.min() >= LEAST_CONFIDENCE
    known = coco_metrics(images, 3, task).overall.values["mAP50"]
    assert mean_average_precision(judged) == pytest.approx(known, abs=0.005)


def test_an_image_that_is_chosen_twice_counts_twice() -> None:
    rng = np.random.default_rng(4)
    images = [compare_image(*draw_pair(rng, "detect"), "detect") for _ in range(9)]
    twice = judge_images(images, [None] * 9, 3).select(np.array([2, 5, 2]))
    again = judge_images([images[number] for number in (2, 5, 2)], [None] * 3, 3)
    assert (twice.labels == again.labels).all()
    assert (twice.correct == again.correct).all()
    assert (twice.profile.image == again.profile.image).all()
    assert twice.profile.size == pytest.approx(again.profile.size)

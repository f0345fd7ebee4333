"""How unsure a version is of an image: by confidences, and by what stays of them in another view."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.selection.pool import keep_counted
from tasks.selection.uncertainty import measure_consistency, measure_doubt, score_uncertainty
from tasks.vision.detections import Detections
from tests.tasks.selection.pools import found


def classified(*scores: float) -> Detections:
    return Detections.empty(10, 10, class_scores=np.array(scores, np.float32))


def test_doubt_is_entropy_and_twice_the_doubts_count_less_than_twice() -> None:
    one, four = measure_doubt(found((0, 0.5))), measure_doubt(found(*[(0, 0.5)] * 4))
    assert one == pytest.approx(1)
    assert four == pytest.approx(2)
    assert measure_doubt(found((0, 0.5), *[(0, 1.0)] * 3)) == pytest.approx(0.5, abs=0.01)
    assert measure_doubt(found()) == 0
    assert measure_doubt(found((0, 1.0))) == pytest.approx(0, abs=1e-4)
    assert measure_doubt(classified(0.25, 0.25, 0.25, 0.25)) == pytest.approx(1)
    assert measure_doubt(keep_counted(classified(0.5, 0.5, 0, 0))) == pytest.approx(0.5)
    assert measure_doubt(classified(1, 0, 0, 0)) == pytest.approx(0, abs=1e-6)


def test_what_is_found_twice_or_hardly_does_not_count() -> None:
    twice = found((0, 0.9), (0, 0.4), (1, 0.4), (0, 0.09))
    boxes = twice.xyxy.copy()
    boxes[1] = boxes[2] = boxes[0] + 1
    kept = keep_counted(replace(twice, xyxy=boxes))
    assert kept.class_id.tolist() == [0, 1]
    assert keep_counted(classified(0.05, 0.35, 0.6)).class_id.tolist() == [2, 1]


def test_agreement_is_the_overlap_of_what_both_find() -> None:
    one = found((0, 0.8), (1, 0.4))
    moved = replace(one, xyxy=one.xyxy + np.array([5, 0, 5, 0], np.float32))
    assert measure_consistency(one, one) == pytest.approx(1)
    assert measure_consistency(one, moved) == pytest.approx(1 / 3)
    assert measure_consistency(one, found((1, 0.8), (0, 0.4))) == 0
    assert measure_consistency(one, found((0, 0.8))) == measure_consistency(found((0, 0.8)), one) == pytest.approx(0.8)
    assert measure_consistency(found(), found()) == 1
    assert measure_consistency(found(), one) == 0
    assert measure_consistency(classified(0.7, 0.3), classified(0.2, 0.8)) == pytest.approx(0.5)
    boxes = np.array([[10, 10, 8, 2, 0], [40, 10, 8, 2, 0]], np.float32)
    rotated = replace(one, xywhr=boxes)
    turned = replace(one, xywhr=boxes + np.array([0, 0, 0, 0, np.pi / 2], np.float32))
    assert measure_consistency(rotated, turned) == pytest.approx(4 / 28, abs=1e-3)


def test_uncertainty_takes_the_mean_of_two_ranks() -> None:
    doubts, consistencies = np.array([0.0, 0.1, 5.0, 0.0]), np.array([1.0, 0.2, 1.0, 0.9])
    assert score_uncertainty(doubts, consistencies) == pytest.approx([0, 0.75, 0.5, 0.25])

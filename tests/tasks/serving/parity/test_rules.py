"""The verdict and all its reasons."""

import numpy as np
import pytest

from tasks.parameters import ParityPolicy
from tasks.serving.parity.rules import ParityReport, compare_predictions, confidence_floor, parity_tags
from tasks.vision.detections import Detections
from tests.tasks.serving.parity.builders import found, grid, sample, scores

POLICY = ParityPolicy(min_detections=50)


def judge(
    one: list[Detections], other: list[Detections], before: float | None = 0.5, after: float | None = 0.5
) -> ParityReport:
    return compare_predictions(one, other, sample(len(one)), (scores(before), scores(after)), POLICY)


def test_equal_detections_pass() -> None:
    parity = judge([found(*grid(60))], [found(*grid(60))])
    assert parity.passed
    assert (parity.agreement, parity.compared, parity.confidence) == (1.0, 120, 0.3)
    assert not parity.worst


def test_detections_that_are_missing_and_those_too_many_count() -> None:
    few, many = judge([found(*grid(60))], [found(*grid(58))]), judge([found(*grid(58))], [found(*grid(60))])
    assert few.agreement == many.agreement == 116 / 118
    assert not few.passed
    assert not many.passed


def test_every_reason_is_given() -> None:
    parity = judge([found(*grid(60))], [found(*grid(30))], 0.5, 0.4)
    agreement, drop = parity.reasons
    assert "at least 99.0%" in agreement
    assert "found 66.7% (60 of 90)" in agreement
    assert "at most 0.010 below the 0.5000" in drop
    assert "found 0.4000" in drop


@pytest.mark.parametrize(("after", "passed"), [(0.4901, True), (0.489, False), (0.6, True), (None, True)])
def test_a_loss_of_map_up_to_the_limit_passes(after: float | None, passed: bool) -> None:
    assert judge([found(*grid(60))], [found(*grid(60))], 0.5, after).passed is passed


def test_a_weak_model_is_judged_by_its_best_detections() -> None:
    rows = [[*row[:4], 0.02 + 0.001 * at, row[5]] for at, row in enumerate(grid(80))]
    parity = judge([found(*rows)], [found(*rows)])
    assert (parity.weak, parity.required_agreement, parity.compared) == (True, POLICY.min_weak_agreement, 100)
    assert parity.confidence == pytest.approx(0.05)
    assert not judge([found(*rows)], [found(*([*row[:5], (row[5] + 1) % 3] for row in rows))]).passed


def test_the_line_never_falls_to_what_the_graph_cuts_off() -> None:
    assert confidence_floor([found([0, 0, 9, 9, 0.0011, 0])], POLICY) == (0.002, True)


def test_two_that_find_nothing_agree_and_one_that_does_is_stopped() -> None:
    assert judge([found()], [found()], None, None).passed
    assert not judge([found()], [found(*grid(3))], None, None).passed


def test_a_classifier_is_judged_by_its_best_class() -> None:
    def says(*values: float) -> Detections:
        return Detections.empty(100, 80, class_scores=np.array(values, np.float32))

    same = [says(0.7, 0.2, 0.1)] * 9
    sides = [*same, says(0.1, 0.8, 0.1)], [*same, says(0.1, 0.1, 0.8)]
    both = scores(1.0, "classify"), scores(1.0, "classify")
    parity = compare_predictions(*sides, sample(10, "classify"), both, POLICY)
    assert (parity.metric, parity.compared, parity.matched, parity.worst) == ("accuracy_top1", 20, 18, (9,))
    assert not parity.weak, "it gave as many answers as there are images"
    assert [(row.name, row.compared, row.matched) for row in parity.classes] == [
        ("cat", 18, 18),
        ("dog", 1, 0),
        ("owl", 1, 0),
    ]


def test_a_classifier_that_knows_little_is_judged_by_the_little_it_knows() -> None:
    """Another image must not pass for the same one because all probabilities are near chance."""
    sides = [
        [Detections.empty(100, 80, class_scores=np.array([p, 1 - p], np.float32))] * 10 for p in (0.52, 0.5205, 0.535)
    ]
    both = scores(0.5, "classify"), scores(0.5, "classify")
    near, far = (compare_predictions(sides[0], other, sample(10, "classify"), both, POLICY) for other in sides[1:])
    assert near.weak
    assert near.passed
    assert not far.passed


def test_classes_count_the_detections_of_both_sides() -> None:
    rows = grid(3)
    parity = judge([found(*rows)], [found(rows[0], [*rows[1][:5], 2])])
    assert [(row.name, row.compared, row.matched) for row in parity.classes] == [
        ("cat", 2, 2),
        ("dog", 1, 0),
        ("owl", 2, 0),
    ]


def test_a_class_that_the_model_does_not_have_is_reported() -> None:
    assert judge([found(*grid(1))], [found([0, 0, 9, 9, 0.9, 7])]).classes[-1].name == "class 7"


def test_other_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        judge([found(), found()], [found()])


def test_tags_are_short_texts() -> None:
    tags = parity_tags(judge([found(*grid(60))], [found(*grid(30))], 0.5, 0.4))
    assert tags["parity"] == "failed"
    assert (tags["parity_agreement"], tags["parity_drop"]) == ("0.6667", "0.1000")
    assert all(isinstance(value, str) and len(value) < 100 for value in tags.values())

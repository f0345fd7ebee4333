"""Which detections count as the same."""

import numpy as np
import pytest

from tasks.parameters import ParityPolicy
from tasks.serving.parity.matching import match_detections
from tasks.vision.detections import pack_masks
from tests.tasks.serving.parity.builders import found

POLICY = ParityPolicy()
BOX = [10.0, 10.0, 50.0, 50.0]


def agree(one: object, other: object, confidence: float = 0.3) -> bool:
    matched = match_detections(one, other, confidence, POLICY)  # type: ignore[arg-type]
    return not matched.unmatched_reference and not matched.unmatched_served


@pytest.mark.parametrize(
    ("row", "same"),
    [
        ([*BOX, 0.9, 1], True),
        ([*BOX, 0.871, 1], True),
        ([*BOX, 0.86, 1], False),
        ([*BOX, 0.9, 0], False),
        ([10, 10, 50, 52, 0.9, 1], True),
        ([10, 10, 50, 55, 0.9, 1], False),
        ([60, 10, 90, 50, 0.9, 1], False),
    ],
)
def test_partners_have_one_class_and_near_scores_and_places(row: list[float], same: bool) -> None:
    assert agree(found([*BOX, 0.9, 1]), found(row)) is same


def test_a_partner_may_be_below_the_line_and_what_is_below_needs_none() -> None:
    assert agree(found([*BOX, 0.31, 0]), found([*BOX, 0.29, 0]))
    assert agree(found([*BOX, 0.29, 0]), found())


def test_the_tolerance_of_weak_scores_shrinks_with_them() -> None:
    assert agree(found([*BOX, 0.10, 0]), found([*BOX, 0.095, 0]), confidence=0.05)
    assert not agree(found([*BOX, 0.10, 0]), found([*BOX, 0.08, 0]), confidence=0.05)


def test_one_detection_is_no_partner_of_two() -> None:
    matched = match_detections(found([*BOX, 0.9, 0], [*BOX, 0.89, 0]), found([*BOX, 0.9, 0]), 0.3, POLICY)
    assert (len(matched.pairs), len(matched.unmatched_reference), matched.unmatched_served) == (1, 1, ())


def test_the_best_fitting_become_partners() -> None:
    near = [10, 10, 50, 51]
    matched = match_detections(
        found([*BOX, 0.9, 0], [*near, 0.89, 0]), found([*near, 0.9, 0], [*BOX, 0.89, 0]), 0.3, POLICY
    )
    assert sorted(pair[:2] for pair in matched.pairs) == [(0, 1), (1, 0)]


def test_masks_must_overlap_too() -> None:
    whole, half = np.zeros((2, 1, 64, 64), bool)
    whole[0, 8:40, 8:40] = half[0, 8:40, 8:24] = True
    one, other = (found([*BOX, 0.9, 0], mask=pack_masks(mask)) for mask in (whole, half))
    assert agree(one, one)
    assert not agree(one, other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((30, 30, 1), (32, 30, 1), True),
        ((30, 30, 1), (34, 30, 1), False),
        ((30, 30, 1), (30, 30, 0.91), True),
        ((30, 30, 1), (30, 30, 0.89), False),
        ((30, 30, 1), (0, 0, 0), False),
        ((30, 30, 1), (30, 30, np.nan), False),
        ((30, 30, 0.53), (31, 30, 0.47), True),
        ((30, 30, 0.53), (40, 30, 0.47), False),
        ((30, 30, 0.4), (10, 50, 0.0), True),
    ],
)
def test_keypoints_that_either_side_sees_must_be_seen_alike(
    one: tuple[float, ...], other: tuple[float, ...], same: bool
) -> None:
    """Both ways round: what one side sees the other must see there; what neither sees may lie anywhere."""
    sides = [found([*BOX, 0.9, 0], keypoints=[[(20, 20, 1), point]]) for point in (one, other)]
    assert agree(sides[0], sides[1]) is same
    assert agree(sides[1], sides[0]) is same


def test_rotated_boxes_are_compared_as_such() -> None:
    """Two bars that cross have one hull."""

    def turned(angle: float, width: float = 40) -> object:
        return found([*BOX, 0.9, 0], xywhr=[[30, 30, width, 6, angle]])

    assert agree(turned(np.pi / 4), turned(np.pi / 4 - np.pi))
    assert not agree(turned(np.pi / 4), turned(-np.pi / 4))
    assert not agree(turned(0.5), turned(0.5, width=50))


def test_a_rotated_box_that_lies_a_third_of_a_pixel_along_itself_is_the_same_object() -> None:
    """Their long edges lie on one line, where OpenCV's `rotatedRectangleIntersection` finds nothing in common."""
    along = np.array([np.cos(2.7), np.sin(2.7)]) * 0.3
    one, other = (found([*BOX, 0.9, 0], xywhr=[[*place, 16, 6, 2.7]]) for place in ([30, 30], 30 + along))
    assert agree(one, other)

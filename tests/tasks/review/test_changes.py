"""What a person has changed of a model's suggestions."""

import numpy as np
import pytest

from tasks.importing.annotations import Box, Outline, Pose, RotatedBox, Shape, Tag, rotated_box
from tasks.review.changes import Change, ReviewTotals, compare_shapes

CELL = Box(class_name="cell", corners=(10, 10, 50, 50))
RING = np.array([[100, 100], [160, 100], [160, 150], [130, 180], [100, 150]], np.float64)


def _box(*corners: float, name: str = "cell") -> Box:
    return Box(class_name=name, corners=(corners[0], corners[1], corners[2], corners[3]))


def _outline(ring: np.ndarray, name: str = "cell") -> Outline:
    return Outline(class_name=name, rings=(ring,))


def _pose(*points: tuple[float, float, float], name: str = "person") -> Pose:
    return Pose(class_name=name, corners=(0, 0, 100, 100), keypoints=np.array(points, np.float64))


def _changes(suggestions: list[Shape], labels: list[Shape]) -> list[tuple[Change, int | None, int | None]]:
    return [(each.change, each.suggestion, each.label) for each in compare_shapes(suggestions, labels)]


@pytest.mark.parametrize(
    ("suggestion", "label", "expected"),
    [
        (CELL, _box(10.9, 10, 50, 49.1), Change.ACCEPTED),
        (CELL, _box(12, 10, 50, 50), Change.MOVED),
        (CELL, _box(10, 10, 50, 50, name="dust"), Change.RECLASSED),
        (CELL, _box(14, 10, 54, 50, name="dust"), Change.MOVED),
        (_outline(RING), _outline(np.roll(RING, 2, axis=0)), Change.ACCEPTED),
        (_outline(RING), _outline(RING[:-1]), Change.MOVED),
        (_outline(RING), _outline(RING, name="dust"), Change.RECLASSED),
        (
            rotated_box("ship", (50, 50), 40, 20, 30),
            RotatedBox(class_name="ship", corners=rotated_box("ship", (50, 50), 20, 40, 120).corners),
            Change.ACCEPTED,
        ),
        (rotated_box("ship", (50, 50), 40, 20, 30), rotated_box("ship", (50, 50), 40, 20, 45), Change.MOVED),
        (_pose((5, 5, 2), (9, 9, 0)), _pose((5, 5.5, 2), (0, 0, 0)), Change.ACCEPTED),
        (_pose((5, 5, 2), (9, 9, 0)), _pose((5, 7, 2), (0, 0, 0)), Change.MOVED),
        (_pose((5, 5, 2), (9, 9, 0)), _pose((5, 5, 2), (9, 9, 2)), Change.MOVED),
        (Tag(class_name="cat"), Tag(class_name="cat"), Change.ACCEPTED),
        (Tag(class_name="cat"), Tag(class_name="dog"), Change.RECLASSED),
    ],
)
def test_each_kind_of_shape_is_accepted_within_a_pixel(suggestion: Shape, label: Shape, expected: Change) -> None:
    assert _changes([suggestion], [label]) == [(expected, 0, 0)]


def test_labels_and_suggestions_belong_together_one_to_one() -> None:
    """The nearer one of two neighbours is the moved one; the class decides where two suggestions lie on one another."""
    near, far = _box(0, 0, 40, 40), _box(12, 0, 52, 40)
    assert _changes([near, far], [_box(10, 0, 50, 40)]) == [(Change.MOVED, 1, 0), (Change.DELETED, 0, None)]
    twin = _box(10, 10, 50, 50, name="dust")
    assert _changes([twin, CELL], [CELL]) == [(Change.ACCEPTED, 1, 0), (Change.DELETED, 0, None)]


def test_a_label_that_hardly_touches_a_suggestion_was_drawn_anew() -> None:
    changes = compare_shapes([CELL], [_box(40, 40, 90, 90)])
    assert [(each.change, each.overlap) for each in changes] == [(Change.ADDED, 0), (Change.DELETED, 0)]
    assert _changes([], [CELL]) == [(Change.ADDED, None, 0)]
    assert _changes([CELL], []) == [(Change.DELETED, 0, None)]


def test_how_much_was_moved_is_told_by_the_overlap() -> None:
    """Also of outlines, which are filled: a triangle is half of its box, and a hole is no part of its object."""
    assert compare_shapes([_box(0, 0, 40, 40)], [_box(0, 0, 40, 20)])[0].overlap == pytest.approx(0.5)
    square = np.array([[0, 0], [40, 0], [40, 40], [0, 40]], np.float64)
    assert compare_shapes([_outline(square)], [_outline(square[:3])])[0].overlap == pytest.approx(0.5, abs=0.01)
    hole = Outline(class_name="cell", rings=(square, square / 2 + 10))
    assert compare_shapes([_outline(square)], [hole])[0].overlap == pytest.approx(0.75, abs=0.02)


def test_a_round_counts_what_was_drawn_beside_all_by_hand() -> None:
    totals = ReviewTotals()
    dust = _box(100, 100, 120, 120, name="dust")
    totals.add(compare_shapes([CELL, dust], [CELL, _box(104, 100, 124, 120, name="dust")]), 12.5)
    totals.add(compare_shapes([CELL, dust], [CELL, _box(200, 0, 210, 10)]), None)
    totals.add(compare_shapes([CELL], [CELL]), 3.0)
    totals.add(compare_shapes([], []), None)
    assert totals.by_class == {
        "cell": {Change.ACCEPTED: 3, Change.ADDED: 1},
        "dust": {Change.MOVED: 1, Change.DELETED: 1},
    }
    assert (totals.drawn, totals.labels) == (2, 5)
    assert (totals.images, totals.untouched, totals.seconds) == (4, 2, [12.5, 3.0])
    assert totals.moved_overlaps == [pytest.approx(16 / 24)]

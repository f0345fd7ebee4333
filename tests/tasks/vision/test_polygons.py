import time
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.vision.polygons import polygon_areas, polygon_bounds, polygons_to_xywhr, self_intersects

Point = tuple[int, int]
points = st.tuples(st.integers(0, 16), st.integers(0, 16))
outlines = st.lists(st.lists(points, min_size=3, max_size=12), min_size=1, max_size=5)


def ragged(drawn: list[list[Point]]) -> tuple[np.ndarray, np.ndarray]:
    """Outlines on a grid of 1/16, on which floats are exact."""
    return np.array([point for outline in drawn for point in outline]) / 16, np.array([len(one) for one in drawn])


def side(a: Point, b: Point, c: Point) -> int:
    return int(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))


def crosses(outline: list[Point]) -> bool:
    edges = list(zip(outline, [*outline[1:], outline[0]], strict=True))
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for (a, b), (c, d) in combinations(edges, 2)
    )


@settings(deadline=None)
@given(outlines)
def test_crossings_are_those_that_comparing_all_edges_finds(drawn: list[list[Point]]) -> None:
    assert self_intersects(*ragged(drawn)).tolist() == [crosses(outline) for outline in drawn]


@settings(deadline=None)
@given(outlines)
def test_areas_and_bounds_of_many_are_those_of_each(drawn: list[list[Point]]) -> None:
    low, high = polygon_bounds(*ragged(drawn))

    for outline, area, least, most in zip(drawn, polygon_areas(*ragged(drawn)), low, high, strict=True):
        doubled = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(outline, [*outline[1:], outline[0]], strict=True))
        assert area == Fraction(abs(doubled), 512)
        assert (least * 16).tolist() == np.min(outline, axis=0).tolist()
        assert (most * 16).tolist() == np.max(outline, axis=0).tolist()


def comb(teeth: int) -> np.ndarray:
    """An outline whose long edges all lie side by side on a slant, so that none can be ruled out by its place."""
    along = np.linspace(0, 0.2, teeth)[:, None] * [1, -1]
    low, high = np.add(along, 0.2), np.add(along, 0.6)
    teeth_of = np.stack([low, high], axis=1).reshape(-1, 2)
    back = [np.add(high[-1:], [0.01, -0.01]), low[-1:] - 0.05, low[:1] - 0.05]
    return np.vstack([teeth_of, *back])


def test_an_outline_made_to_take_long_is_left_out() -> None:
    corners = comb(100_000)
    began = time.monotonic()

    assert not self_intersects(corners, np.array([len(corners)]))[0]
    assert time.monotonic() - began < 5


def test_a_long_outline_is_tested_to_its_end() -> None:
    turn = np.linspace(0, 2 * np.pi, 2_000, endpoint=False)
    circle = 0.5 + 0.4 * np.column_stack([np.cos(turn), np.sin(turn)])
    pierced = np.vstack([circle, [[0.95, 0.51], [0.5, 0.5]]])

    assert not self_intersects(circle, np.array([len(circle)]))[0]
    assert self_intersects(pierced, np.array([len(pierced)]))[0]


@pytest.mark.parametrize(
    ("quad", "box", "tilted"),
    [
        ([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)], True, False),
        ([(0.5, 0.1), (0.9, 0.5), (0.5, 0.9), (0.1, 0.5)], True, True),
        ([(0.3, 0.1), (0.9, 0.3), (0.8, 0.7), (0.2, 0.5)], True, True),
        ([(0.1, 0.1), (0.9, 0.103), (0.897, 0.9), (0.1, 0.9)], True, False),
        ([(0.1, 0.1), (0.9, 0.1), (0.8, 0.9), (0.2, 0.9)], False, False),
        ([(0.1, 0.1), (0.12, 0.1), (0.118, 0.12), (0.105, 0.12)], False, False),
    ],
)
def test_only_rectangles_become_rotated_boxes(quad: list[tuple[float, float]], box: bool, tilted: bool) -> None:
    found = polygons_to_xywhr(np.array([quad]))

    assert (found[0].tolist(), found[1].tolist()) == ([box], [tilted])

"""Distances of embeddings: what is covered, and what is far from all that was learnt."""

import numpy as np
import pytest

from tasks.selection.coverage import Coverage, measure_distances, measure_drift
from tasks.vision.geometry import Floats


def directions(*degrees: float) -> Floats:
    angles = np.radians(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_coverage_is_the_distance_to_the_nearest_that_is_covered() -> None:
    coverage = Coverage(directions(0, 20, 90, 180), directions(10))
    assert int(coverage.distances.argmax()) == 3
    coverage.cover(np.array([False, False, False, True]))
    assert int(coverage.distances.argmax()) == 2
    assert coverage.distances == pytest.approx([1 - np.cos(np.radians(each)) for each in (10, 10, 80, 0)], abs=1e-6)
    assert np.isinf(Coverage(directions(0, 20), directions()).distances).all()


def test_drift_is_measured_in_the_distances_of_what_was_learnt() -> None:
    learnt = directions(*range(0, 40, 2))
    near, far = measure_drift(directions(21, 120), learnt)
    assert near < 1.5
    assert far > 20
    assert measure_drift(directions(21, 120), learnt[:1]).tolist() == [0, 0]


def test_distances_in_blocks_are_those_of_all_at_once() -> None:
    rows = directions(*np.random.default_rng(0).uniform(0, 360, 5000))
    expected = np.sort(1 - rows[-3:] @ rows[:7].T, axis=1)[:, :2].mean(axis=1)
    assert measure_distances(rows, rows[:7], 2)[-3:] == pytest.approx(expected, abs=1e-6)

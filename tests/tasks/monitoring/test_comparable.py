"""From which confidence on a window is compared whose images were kept from different ones."""

import numpy as np
import pytest

from tasks.monitoring.comparable import choose_least, confidence_text


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([(0.25, 60), (0.99, 500), (0.99, 500)], 0.25),
        ([(0.99, 500)], 0.99),  # there is nothing else
        ([(0.01, 490), (0.25, 10)], 0.25),
        ([(0.01, 499), (1.0, 1)], 0.01),
        ([(0.25, 450), (0.5, 50)], 0.25),
        ([(0.25, 200), (0.5, 300)], 0.5),
        ([(0.25, 600), (0.3, 600)], 0.3),
    ],
)
def test_the_confidence_is_that_from_which_on_most_is_left_to_compare(
    kept: list[tuple[float, int]], expected: float
) -> None:
    for pairs in (kept, kept[::-1]):
        least = choose_least([(np.full(2, confidence), images) for confidence, images in pairs])
        assert least.tolist() == [expected, expected]


def test_runs_with_limits_of_single_classes_are_compared_from_the_higher_of_each() -> None:
    kept = [(np.array([0.5, 0.25]), 100), (np.array([0.25, 0.5]), 100)]
    assert choose_least(kept).tolist() == [0.5, 0.5]


def test_sentences_say_where_it_begins() -> None:
    assert confidence_text(0.25, 0.25) == "from confidence 0.25 on"
    assert confidence_text(0.01, 0.6) == "from confidence 0.01 to 0.6 on, by class"

"""From which confidence on a window is compared whose images were kept from different ones."""

from typing import Any

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
        least = choose_least([own(confidence, images, str(run)) for run, (confidence, images) in enumerate(pairs)])
        assert least.tolist() == [expected, expected]


@pytest.mark.parametrize(("repeated", "expected"), [(50, 0.25), (500, 0.5)])
def test_an_image_that_many_runs_have_answered_counts_once(repeated: int, expected: float) -> None:
    """Of 20 runs over the same images, beside one over 300 others."""
    kept = [*(own(0.5, repeated, "same") for _ in range(20)), own(0.25, 300, "others")]
    for pairs in (kept, kept[::-1]):
        assert choose_least(pairs).tolist() == [expected, expected]


def test_an_image_counts_from_the_lowest_confidence_that_a_run_has_kept_it_from() -> None:
    """All that the run at 0.5 has answered is known from 0.25 on, so nothing is gained by leaving more away."""
    assert choose_least([own(0.5, 300, "same"), own(0.25, 300, "same")]).tolist() == [0.25, 0.25]
    assert choose_least([own(0.5, 300, "same"), own(0.25, 100, "same")]).tolist() == [0.5, 0.5]


def own(confidence: float, images: int, name: str) -> Any:
    """What a run has kept, from one confidence on in both classes; runs of one name have the same images."""
    return np.full(2, confidence), {(name, number) for number in range(images)}


def test_runs_with_limits_of_single_classes_are_compared_from_the_higher_of_each() -> None:
    first, second = ({(name, number) for number in range(100)} for name in "ab")
    kept = [(np.array([0.5, 0.25]), first), (np.array([0.25, 0.5]), second)]
    assert choose_least(kept).tolist() == [0.5, 0.5]


def test_sentences_say_where_it_begins() -> None:
    assert confidence_text(0.25, 0.25) == "from confidence 0.25 on"
    assert confidence_text(0.01, 0.6) == "from confidence 0.01 to 0.6 on, by class"

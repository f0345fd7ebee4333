"""Whether a version is as sure of new images as of those by which its thresholds go."""

import numpy as np
import pytest

from tasks.labelling.likeness import describe_shift, mean_confidence, mean_confidences
from tests.tasks.labelling.test_thresholds import matching


def confidences(mean: float, images: int, seed: int = 0) -> list[float]:
    return [float(each) for each in np.clip(np.random.default_rng(seed).normal(mean, 0.05, images), 0, 1)]


def test_each_image_counts_once_by_what_every_run_of_inference_tells() -> None:
    found = matching([0.9, 0.7, 0.1, 0.2, 0.5, 0.0], np.ones(6), image=[0, 0, 0, 1, 2, 2])
    assert mean_confidences(found) == (0.8, 0.5)
    assert mean_confidence(np.array([0.24, 0.0])) is None


@pytest.mark.parametrize(("mean", "told"), [(0.6, "less sure"), (0.98, "more sure"), (0.9, "")])
def test_images_of_which_the_version_is_otherwise_sure_are_told(mean: float, told: str) -> None:
    words = describe_shift(confidences(0.9, 60), confidences(mean, 60, seed=1))
    assert (told in words, bool(words)) == (True, bool(told))
    assert not told or "beside 0.9" in words


def test_of_few_images_nothing_is_told() -> None:
    assert not describe_shift(confidences(0.9, 60), confidences(0.3, 29))
    assert not describe_shift((), confidences(0.3, 60))

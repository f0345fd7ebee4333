"""Whether a version is as sure of other images as it was of its validation images, by which its thresholds go."""

from collections.abc import Sequence

import numpy as np

from tasks.evaluation.validation_matching import ValidationMatching
from tasks.monitoring.drift import compare_values
from tasks.parameters import DEFAULT_CONFIDENCE
from tasks.vision.geometry import Doubles

_LEAST_IMAGES = 30
_LARGE, _SIGNIFICANT = 0.2, 0.01  # population stability index, p-value
_MOST_KEPT = 5000  # images


def mean_confidence(confidence: Doubles) -> float | None:
    """Return the mean of the confidences of an image [N] that count; None if there is none."""
    counted = confidence[confidence >= DEFAULT_CONFIDENCE]
    return float(counted.mean()) if len(counted) else None


def mean_confidences(matching: ValidationMatching) -> tuple[float, ...]:
    """Return the mean confidence of the first images of a validation in which something was found."""
    found = (mean_confidence(matching.confidence[own]) for own in _rows_by_image(matching))
    return tuple(round(mean, 4) for mean in found if mean is not None)[:_MOST_KEPT]


def describe_shift(validation: Sequence[float], found: Sequence[float]) -> str:
    """Return in a sentence that the mean confidences of images are unlike those of validation images.

    It is empty if they are alike, or if there are fewer than 30 of either.
    """
    reference, seen = np.array(validation, np.float64), np.array(found, np.float64)
    test = compare_values("confidence", reference, seen, _LEAST_IMAGES)
    if test.effect is None or test.p_value is None or test.effect < _LARGE or test.p_value > _SIGNIFICANT:
        return ""
    return (
        f"The version is {'less' if seen.mean() < reference.mean() else 'more'} sure in these images than in those of "
        f"validation: its mean confidence is {seen.mean():.2f} beside {reference.mean():.2f}. So the thresholds, and "
        "what is expected of them, may not hold here: look at the labels before you train on them."
    )


def _rows_by_image(matching: ValidationMatching) -> list[np.ndarray]:
    order = np.argsort(matching.image, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(matching.image[order])) + 1)

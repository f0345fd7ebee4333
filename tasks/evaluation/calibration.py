"""Whether a confidence means what it says: of the detections with 0.8, are four of five right?"""

from dataclasses import dataclass

import numpy as np

from tasks.evaluation.matching import Matching

BINS = 10
MIN_CONFIDENCE = 0.05  # weaker detections are by far the most, and nobody uses them


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The `count` detections from confidence `low` to `high`: their mean confidence, and the share that is right."""

    low: float
    high: float
    count: int
    confidence: float
    precision: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The bins that have detections, and the expected calibration error: the mean gap of the two, 0 to 1.

    The error is None if nothing was found: that is no good calibration.
    """

    bins: tuple[Bin, ...]
    error: float | None


def calibrate(matching: Matching) -> Calibration:
    """Return how the confidence of detections, from `MIN_CONFIDENCE` on, compares with the share that is right."""
    used = matching.confidence >= MIN_CONFIDENCE
    confidence, correct = matching.confidence[used], matching.correct[used]
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            count=int((places == place).sum()),
            confidence=float(confidence[places == place].mean()),
            precision=float(correct[places == place].mean()),
        )
        for place in np.unique(places).tolist()
    )
    gaps = sum(each.count * abs(each.confidence - each.precision) for each in bins)
    return Calibration(bins=bins, error=gaps / len(confidence) if len(confidence) else None)

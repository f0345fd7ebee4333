"""From which confidence on a detection counts: by class, that of the best F1, or of a wanted precision or recall."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.matching import Doubles, Ints, Matching

RESAMPLES = 200
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a threshold is for: the best F1, that at a least precision and recall, or the best of one at the other."""

    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The confidence from which detections of a class count, and what it gives on the images that it was computed on.

    `low` and `high` hold it in 95 % of bootstrap samples of the images. `confidence` is None if no confidence reaches
    the goal; the rest is then of all detections.
    """

    confidence: float | None
    low: float | None
    high: float | None
    precision: float
    recall: float
    f1: float
    labels: int


def class_thresholds(matching: Matching, goal: Goal, image_count: int, seed: int = 0) -> dict[int, Threshold]:
    """Return the threshold of each class with labels; the same seed gives the same intervals."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(image_count, np.full(image_count, 1 / image_count), RESAMPLES)
    return {
        number: _class_threshold(matching, number, goal, draws) for number in np.unique(matching.label_class).tolist()
    }


def _class_threshold(matching: Matching, class_id: int, goal: Goal, draws: Ints) -> Threshold:
    rows = np.flatnonzero(matching.class_id == class_id)
    rows = rows[np.argsort(-matching.confidence[rows], kind="stable")]
    label_images = matching.label_image[matching.label_class == class_id]
    curve = _Curve(matching.confidence[rows], matching.correct[rows], np.ones(len(rows)), len(label_images))
    best = curve.best(goal)
    chosen = len(rows) - 1 if best is None else best
    again = []
    for draw in draws:
        resampled = _Curve(
            matching.confidence[rows], matching.correct[rows], draw[matching.image[rows]], draw[label_images].sum()
        )
        place = resampled.best(goal)
        if place is not None:
            again.append(resampled.confidence[place])
    low, high = np.percentile(again, INTERVAL).tolist() if again and best is not None else (None, None)
    at = curve.at(chosen)
    return Threshold(
        confidence=None if best is None else float(curve.confidence[best]),
        low=low,
        high=high,
        labels=len(label_images),
        **at,
    )


class _Curve:
    """Precision, recall and F1 of the detections down to each place; `weights` are how often each counts."""

    def __init__(
        self, confidence: Doubles, correct: NDArray[np.bool_], weights: NDArray[np.generic], labels: int
    ) -> None:
        self.confidence = confidence
        hits = np.cumsum(correct * weights)
        count = np.cumsum(weights)
        self.precision = hits / np.maximum(count, 1)
        self.recall = hits / max(labels, 1)
        self.f1 = 2 * hits / np.maximum(count + labels, 1)
        # Detections of one confidence count together.
        self._ends = (np.append(confidence[1:], -1) < confidence) & (count > 0)

    def best(self, goal: Goal) -> int | None:
        """The place of the threshold; None if there is none."""
        able = (
            self._ends
            & (self.recall > 0)
            & (self.precision >= (goal.precision or 0))
            & (self.recall >= (goal.recall or 0))
        )
        merit = self.f1
        if goal.recall is None and goal.precision is not None:
            merit = self.recall
        elif goal.precision is None and goal.recall is not None:
            merit = self.precision
        return int(np.where(able, merit, -1).argmax()) if able.any() else None

    def at(self, place: int) -> dict[str, float]:
        """The values down to a place."""
        if place < 0:
            return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
        return {name: float(getattr(self, name)[place]) for name in ("precision", "recall", "f1")}

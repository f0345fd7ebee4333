"""The mAP50 of a model on images without labels, learnt on labelled images that were corrupted in many ways.

How often and how surely the model finds something, what its confidence promises, and how far the images look from those
of the validation: a regression makes a score of it. On corruptions that it has not learnt it errs by as much as the
interval says, which leaves out one after another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tasks.evaluation.corruption import Corruption
from tasks.monitoring.judged_images import JudgedImages, average_precision, mean_average_precision
from tasks.monitoring.profiles import Doubles, Profile

COVERAGE = 0.9  # of the interval
_WINDOW = 50  # images
_DRAWS = 6  # of each corruption and strength
_SAMPLES = 100
_STANDARD_ERRORS = 1.645  # either way: `COVERAGE` of a normal distribution
_SURE = 0.7
_FARTHEST = 5.0  # standard deviations: beyond them a shift tells no more
# Of objects that were not found none is right, but some images show more than those of the validation.
_MOST_PER_FOUND = 1.5
_COMPONENTS = 8


@dataclass(frozen=True, kw_only=True)
class ScoreEstimate:
    """The score that is estimated, with the interval that has held in `COVERAGE` of all trials; all from 0 to 1."""

    score: float
    low: float
    high: float
    expected: float

    @property
    def fall(self) -> float:
        """How much lower it is than what is `expected`: the score on the images of the validation."""
        return self.expected - self.score


class ScoreEstimator:
    """Estimates the score of what a model keeps: its detections from their least confidence on.

    Args:
        clean: Images of the validation.
        corrupted: The same images, corrupted.
        classify: Whether the score is the accuracy, of one detection an image, and not mAP50.
        seed: Of the draws; the same seed gives the same estimates.
    """

    def __init__(
        self, clean: JudgedImages, corrupted: Mapping[Corruption, JudgedImages], *, classify: bool, seed: int = 0
    ) -> None:
        self._classify = classify
        self._features = _Features(clean, classify=classify)
        self.expected = self.score(clean)
        rng = np.random.default_rng(seed)
        sets = [("", clean), *((corruption.name, images) for corruption, images in corrupted.items())]
        drawn = [
            (name, window)
            for name, images in sets
            for _ in range(_DRAWS)
            if (window := images.select(rng.integers(0, len(images.profile), _WINDOW))).labels.any()
        ]
        self._groups = np.array([name for name, _ in drawn])
        self._rows = np.array([self._features.of(images.profile) for _, images in drawn])
        self._scores = np.array([self.score(images) for _, images in drawn])
        self._model = _fit(self._rows, self._scores)
        missed = float(np.quantile(np.abs(self._leave_out() - self._scores), COVERAGE))
        self._error = float(np.hypot(missed, self._error_of_sample(clean, rng)))

    def score(self, images: JudgedImages) -> float:
        """Return the score of images whose labels are known."""
        if self._classify:
            return float(images.correct.sum() / len(images.profile))
        return mean_average_precision(images)

    def estimate(self, window: Profile) -> ScoreEstimate:
        """Return the estimate for images without labels, with detections of the same least confidence."""
        score = float(self._predict(self._model, self._features.of(window)[None])[0])
        low, high = max(score - self._error, 0.0), min(score + self._error, 1.0)
        return ScoreEstimate(score=score, low=low, high=high, expected=self.expected)

    def _leave_out(self) -> Doubles:
        found = np.zeros(len(self._scores))
        for name in np.unique(self._groups[self._groups != ""]).tolist():
            kept = self._groups != name
            found[~kept] = self._predict(_fit(self._rows[kept], self._scores[kept]), self._rows[~kept])
        clean = self._groups == ""
        found[clean] = self._predict(self._model, self._rows[clean])
        return found

    def _error_of_sample(self, clean: JudgedImages, rng: np.random.Generator) -> float:
        """Return how far the score of as many other images of the same kind may be off, in `COVERAGE` of all cases.

        All trials are of the images of the validation, so none of them tells it.
        """
        count = len(clean.profile)
        samples = (clean.select(rng.integers(0, count, count)) for _ in range(_SAMPLES))
        return float(np.std([self.score(sample) for sample in samples if sample.labels.any()])) * _STANDARD_ERRORS

    @staticmethod
    def _predict(model: Any, rows: Doubles) -> Doubles:  # noqa: ANN401 - scikit-learn has no types
        return np.clip(np.asarray(model.predict(rows), np.float64), 0, np.minimum(1, _MOST_PER_FOUND * rows[:, 0]))


class _Features:
    """What of a window tells how good a model is on it, beside the images of the validation."""

    def __init__(self, clean: JudgedImages, *, classify: bool) -> None:
        from sklearn.isotonic import IsotonicRegression  # it takes a second to load

        self._classify = classify
        labels = clean.labels.sum(axis=1, keepdims=True) if classify else clean.labels
        self._labels = labels.mean(axis=0)
        reference = self._merge_classes(clean.profile)
        self._calibration = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        self._calibration.fit(reference.confidence, clean.correct)
        self._objects = self._of_objects(reference)
        self._sizes = _sizes(reference)
        self._looks = [_Look(values[:, None]) for values in _looks(reference)]
        self._embeddings = _Look(reference.embeddings) if reference.embeddings.shape[1] else None

    def of(self, window: Profile) -> Doubles:
        """Return [features], the first of which is how many objects are found, as a share of the validation's."""
        window = self._merge_classes(window)
        objects = self._of_objects(window)
        found, sure = np.minimum(objects[:, :2] / np.maximum(self._objects[:, :2], 1e-9), 2).mean(axis=0)
        confidence, promised = (objects - self._objects)[:, 2:].mean(axis=0)
        sizes = np.clip(_sizes(window) - self._sizes, -1, 1) if len(window.size) else np.zeros(2)
        shifts = [look.shift(values[:, None])[0] for look, values in zip(self._looks, _looks(window), strict=True)]
        embedded = self._embeddings.shift(window.embeddings) if self._embeddings else []
        return np.array([found, sure, confidence, promised, *sizes, *shifts, *embedded])

    def _of_objects(self, profile: Profile) -> Doubles:
        """Return [classes with labels, 4]: objects and sure ones an image, mean confidence, promised precision."""
        rows = []
        for number in self._labels.nonzero()[0].tolist():
            confidence = -np.sort(-profile.confidence[profile.class_id == number])
            right = self._calibration.predict(confidence) if len(confidence) else confidence
            promised = average_precision(right, self._labels[number] * len(profile))
            mean = confidence.mean() if len(confidence) else 0.0
            rows.append((len(confidence) / len(profile), (confidence >= _SURE).sum() / len(profile), mean, promised))
        return np.array(rows, np.float64)

    def _merge_classes(self, profile: Profile) -> Profile:
        """Of classify every image has one class: which one says nothing of how often it is right."""
        return replace(profile, class_id=np.zeros_like(profile.class_id)) if self._classify else profile


class _Look:
    """What some images look like in d numbers each: along their principal components, in standard deviations."""

    def __init__(self, values: Doubles) -> None:
        known = values[np.isfinite(values).all(axis=1)]
        self._centre = known.mean(axis=0)
        self._scale = known.std(axis=0) + 1e-6
        _, _, components = np.linalg.svd((known - self._centre) / self._scale, full_matrices=False)
        self._components = components[:_COMPONENTS].T
        self._spread = ((known - self._centre) / self._scale @ self._components).std(axis=0) + 1e-6

    def shift(self, values: Doubles) -> tuple[float, float]:
        """Return how far the mean of other images is off, and how far each of them is; 0 and 1 if none is known."""
        known = (values[np.isfinite(values).all(axis=1)] - self._centre) / self._scale
        if not len(known):
            return 0.0, 1.0
        means = (known @ self._components).mean(axis=0) / self._spread
        distances = np.sqrt((means**2).mean()), np.sqrt((known**2).mean())
        return min(float(distances[0]), _FARTHEST), min(float(distances[1]), 2 * _FARTHEST)


def _looks(profile: Profile) -> list[Doubles]:
    return [values for name, values in profile.pictures.items() if name != "image size"]


def _sizes(profile: Profile) -> Doubles:
    """Return the logarithms of the median size of objects and of how far their means differ between images."""
    means = profile.mean_of_objects(profile.size)
    return np.log([np.median(profile.size) + 1e-3, np.nanstd(means) + 1e-3])


def _fit(rows: Doubles, scores: Doubles) -> Any:  # noqa: ANN401 - scikit-learn has no types
    """A line knows how it goes on beyond what was learnt, a kernel what is between: their mean beats both."""
    from sklearn.ensemble import VotingRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    both = VotingRegressor([("line", RidgeCV(np.logspace(-2, 3, 12))), ("kernel", SVR(epsilon=0.01, gamma=0.02))])
    return make_pipeline(StandardScaler(), both).fit(rows, scores)

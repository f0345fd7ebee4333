"""Is a version still right on the images of a window? The tests of drift, the estimated score, and why it is told."""

from dataclasses import dataclass

import numpy as np

from tasks.evaluation.matching import LEAST_CONFIDENCE
from tasks.monitoring.drift import DriftTest, compare_profiles
from tasks.monitoring.judged_images import JudgedImages
from tasks.monitoring.profiles import PICTURE_TRAITS, Doubles, Profile
from tasks.monitoring.reference import Reference
from tasks.monitoring.score_estimate import COVERAGE, ScoreEstimate, ScoreEstimator
from tasks.monitoring.window import Window
from tasks.parameters import MonitoringParams

_UNUSUAL = 2.0  # standard deviations of the validation images


@dataclass(frozen=True, kw_only=True)
class UnusualImage:
    """An image by its number in the window, the trait in which it is farthest off, and the value of that.

    `usual` are the lowest and the highest value of the validation images.
    """

    image: int
    trait: str
    value: float
    usual: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is told of a window.

    Attributes:
        images: How many it has.
        validated: How many validation images it is compared with.
        least: From which confidence on, of the class with the lowest and of that with the highest.
        metric: The name of the score that is estimated.
        tests: A test of each trait.
        estimate: None if there are too few images.
        max_fall: From which fall of the score on it is told.
        min_images: How many images a test takes.
        unusual: The images that look least like those of the validation, the farthest first.
    """

    images: int
    validated: int
    least: tuple[float, float]
    metric: str
    tests: tuple[DriftTest, ...]
    estimate: ScoreEstimate | None
    max_fall: float
    min_images: int
    unusual: tuple[UnusualImage, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there was too little to compare anything, so that nobody knows whether something drifted."""
        return all(test.q_value is None for test in self.tests)

    @property
    def has_fallen(self) -> bool:
        """Whether the score has fallen: so far that the interval does not hold that of the validation images."""
        return self.may_have_fallen and self.estimate is not None and self.estimate.high < self.estimate.expected

    @property
    def may_have_fallen(self) -> bool:
        """Whether the score is estimated to have fallen by so much that it is told, surely or not."""
        return self.estimate is not None and self.estimate.fall >= self.max_fall

    @property
    def drifted_traits(self) -> tuple[str, ...]:
        """The traits that drifted."""
        return tuple(test.trait for test in self.tests if test.drifted)

    @property
    def untested_traits(self) -> tuple[str, ...]:
        """The traits that too few images have to be compared."""
        return tuple(test.trait for test in self.tests if test.effect is None)

    @property
    def drifted(self) -> tuple[str, ...]:
        """The traits that drifted, and the score, if it has fallen; not if it only may have."""
        return (self.metric, *self.drifted_traits) if self.has_fallen else self.drifted_traits

    @property
    def estimate_text(self) -> str:
        """The estimate beside what is expected, and what it says, without a full stop; empty if there is none."""
        if self.estimate is None:
            return ""
        told = " has fallen:" if self.has_fallen else " may have fallen:" if self.may_have_fallen else " is"
        interval = f"{100 * COVERAGE:.0f} % interval {self.estimate.low:.2f} to {self.estimate.high:.2f}"
        expected = f"{self.estimate.expected:.2f} on the validation images"
        return f"{self.metric}{told} estimated as {self.estimate.score:.2f} ({interval}); {expected}"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is told, a sentence each."""
        fallen = [f"{self.estimate_text}."] if self.may_have_fallen else []
        return (*fallen, *(f"{drift_text(test)}." for test in self.tests if test.drifted))


def judge_window(reference: Reference, window: Window, task: str, monitoring: MonitoringParams) -> Judgement:
    """Return how a window differs from the validation images, by what the version has kept of its detections."""
    classify = task == "classify"
    least = np.maximum(window.least, LEAST_CONFIDENCE)
    profile = window.profile()
    if not profile.embeddings.shape[1]:
        reference = reference.without_embeddings()
    clean = reference.clean.from_confidence(least)
    tests = compare_profiles(
        clean.profile,
        profile,
        reference.classes,
        min_images=monitoring.min_images,
        significance=monitoring.significance,
        seed=monitoring.seed,
    )
    enough = min(len(profile), len(clean.profile)) >= monitoring.min_images
    estimator = _learn(reference, clean, least, classify=classify, seed=monitoring.seed) if enough else None
    return Judgement(
        images=len(profile),
        validated=len(clean.profile),
        least=(float(least.min()), float(least.max())),
        metric="accuracy" if classify else "mAP50",
        tests=tests,
        estimate=estimator.estimate(profile) if estimator else None,
        max_fall=monitoring.max_fall,
        min_images=monitoring.min_images,
        unusual=_find_unusual(clean.profile, profile),
    )


def _learn(
    reference: Reference, clean: JudgedImages, least: Doubles, *, classify: bool, seed: int
) -> ScoreEstimator | None:
    """Nothing is learnt of a version that finds nothing in its own validation images, nor of images without labels."""
    if not len(clean.correct) or not clean.labels.any():
        return None
    corrupted = {name: images.from_confidence(least) for name, images in reference.corrupted.items()}
    return ScoreEstimator(clean, corrupted, classify=classify, seed=seed)


def _find_unusual(reference: Profile, window: Profile) -> tuple[UnusualImage, ...]:
    usual = np.array([reference.pictures[trait] for trait in PICTURE_TRAITS])
    seen = np.array([window.pictures[trait] for trait in PICTURE_TRAITS])
    scale = usual.std(axis=1) + 1e-6 * np.abs(usual).max(axis=1) + 1e-9
    distances = np.nan_to_num(np.abs(seen - usual.mean(axis=1)[:, None]) / scale[:, None])
    looked_at = np.isfinite(seen).all(axis=0)
    farthest = np.where(looked_at, distances.max(axis=0, initial=0), 0)
    order = [number for number in np.argsort(-farthest, kind="stable").tolist() if farthest[number] >= _UNUSUAL]
    chosen = distances.argmax(axis=0)
    return tuple(
        UnusualImage(
            image=number,
            trait=PICTURE_TRAITS[chosen[number]],
            value=float(seen[chosen[number], number]),
            usual=(float(usual[chosen[number]].min()), float(usual[chosen[number]].max())),
        )
        for number in order
    )


def drift_text(test: DriftTest) -> str:
    """Return how a trait that was tested differs, without a full stop."""
    return f"{test.trait}: {test.measure} {test.effect or 0:.2f}, q {test.q_value or 0:.1g}"

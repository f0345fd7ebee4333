"""Thresholds that are computed, and what they promise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.evaluation.matching import Matching
from tasks.evaluation.promise import promise_misses
from tasks.evaluation.thresholds import Goal, class_thresholds

GOLD = 150


def matching(confidence: Any, correct: Any, found: Any, label_image: Any = None, image: Any = None) -> Matching:
    """Of one class, with only what thresholds look at."""
    confidence, found = np.asarray(confidence, float), np.asarray(found, float)
    nothing = np.zeros(len(confidence))
    return Matching(
        image=np.zeros(len(confidence), int) if image is None else np.asarray(image),
        place=nothing.astype(int),
        class_id=nothing.astype(int),
        confidence=confidence,
        label=np.where(correct, 0, -1),
        nearest=nothing.astype(int),
        other=nothing.astype(int),
        nearest_overlap=nothing,
        other_overlap=nothing,
        label_image=np.arange(len(found)) if label_image is None else np.asarray(label_image),
        label_class=np.zeros(len(found), int),
        found=found,
    )


ROWS = matching([0.9, 0.8, 0.7, 0.6, 0.5, 0.5], [1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.6, 0.0])


@pytest.mark.parametrize(
    ("goal", "confidence", "precision", "recall"),
    [
        (Goal(), 0.6, 0.75, 0.75),
        (Goal(precision=0.9), 0.8, 1.0, 0.5),
        (Goal(recall=0.5), 0.8, 1.0, 0.5),
        (Goal(recall=0.9), None, 0.5, 0.75),
    ],
)
def test_a_threshold_reaches_its_goal(goal: Goal, confidence: float | None, precision: float, recall: float) -> None:
    threshold = class_thresholds(ROWS, goal, 4)[0]
    assert (threshold.confidence, threshold.precision, threshold.recall) == (confidence, precision, recall)


def test_a_class_that_is_never_found_has_no_threshold() -> None:
    assert class_thresholds(matching([0.9], [0], [0.0]), Goal(), 1)[0].confidence is None


def test_the_interval_holds_the_best_threshold_of_new_images_and_repeats_with_its_seed() -> None:
    def draw(seed: int, images: int) -> Matching:
        rng = np.random.default_rng(seed)
        right = rng.random(images) < 0.7
        scores = np.where(right, rng.beta(4, 2, images), rng.beta(2, 4, images))
        return matching(scores, right, np.where(right, scores, 0), image=np.arange(images))

    best = class_thresholds(draw(0, 50_000), Goal(), 50_000)[0].confidence
    intervals = [class_thresholds(draw(seed, 150), Goal(), 150)[0] for seed in range(1, 41)]
    inside = [(each.low or 1) <= (best or 0) <= (each.high or 0) for each in intervals]
    assert np.mean(inside) >= 0.85
    assert class_thresholds(draw(1, 150), Goal(), 150, seed=0)[0] == intervals[0]


def test_labels_are_drawn_with_their_images() -> None:
    """All is found, so a sample reaches full recall at the lowest of its own images, however many labels it has."""
    images = np.repeat(np.arange(40), np.tile([1, 5], 20))
    scores = (images + 1) / 41
    threshold = class_thresholds(matching(scores, scores > 0, scores, images, images), Goal(recall=1.0), 40)[0]
    assert threshold.low == threshold.confidence == 1 / 41
    assert threshold.high == pytest.approx(4 / 41, abs=1.5 / 41)  # 2.5 % of the samples lack the lowest three or four


@pytest.mark.parametrize(("spread", "share"), [(0.0, 0.1), (1.0, 0.1), (2.0, 0.05)])
def test_the_promise_is_kept_in_95_of_100_splits(spread: float, share: float) -> None:
    given, kept = split_often(spread, share, splits=200)
    assert kept >= 0.95 * 200
    assert given >= 0.8 * 200


def split_often(spread: float, share: float, splits: int) -> tuple[int, int]:
    """`count_kept` for 2000 images, whose labels are found or missed together, the more the larger the `spread`."""
    rng = np.random.default_rng(7)
    images = np.repeat(np.arange(2000), rng.poisson(5, 2000) + 1)
    ease = rng.normal(0, spread, 2000)[images] + rng.normal(0, 1, len(images))
    found = np.where(ease < -2.2 * np.sqrt(1 + spread**2), 0, 1 / (1 + np.exp(-ease)))
    return count_kept(matching([], [], found, images), 0, share, 2000, splits, rng)


def count_kept(
    labels: Matching, class_id: int, share: float, images: int, splits: int, rng: np.random.Generator
) -> tuple[int, int]:
    """In how many splits of so many images a promise is given by `GOLD` of them, and in how many the others keep it.

    What is not given is kept.
    """
    own = labels.label_class == class_id
    found, label_image = labels.found[own], labels.label_image[own]
    given = kept = 0
    for _ in range(splits):
        gold = np.isin(label_image, rng.permutation(images)[:GOLD])
        of_class = np.full(gold.sum(), class_id)
        part = replace(labels, found=found[gold], label_image=label_image[gold], label_class=of_class)
        promise = promise_misses(part, class_id, share)
        given += promise.threshold is not None
        kept += promise.threshold is None or (found[~gold] < max(promise.threshold, 1e-9)).mean() <= share
    return given, kept


def test_too_few_labels_say_how_many_are_missing() -> None:
    few = promise_misses(matching([], [], np.full(20, 0.9)), 0, 0.05)
    assert (few.threshold, few.missing_labels) == (None, 52)
    enough = promise_misses(matching([], [], np.full(72, 0.9)), 0, 0.05)  # 0.95 ** 72 < 0.025
    assert (enough.threshold, enough.missing_labels, enough.missed) == (0.9, 0, 0)


@pytest.mark.parametrize("images", [1, 3])
def test_labels_that_are_found_alike_in_a_few_images_count_as_one_of_each(images: int) -> None:
    few = promise_misses(matching([], [], np.full(120, 0.9), np.arange(120) % images), 0, 0.05)
    assert few.threshold is None
    assert few.missing_labels == pytest.approx((72 - images) * 120 / images, rel=0.01)


def test_a_model_that_misses_too_many_can_promise_nothing() -> None:
    promise = promise_misses(matching([], [], [0.9] * 80 + [0] * 20), 0, 0.1)
    assert (promise.threshold, promise.missing_labels, promise.missed) == (None, None, 20)


def test_no_labels_ask_for_the_fewest_that_can_promise() -> None:
    assert promise_misses(matching([], [], []), 0, 0.05).missing_labels == 72

"""Do images differ from those of the validation? One test a trait, of images, corrected for how many there are.

A trait has drifted if chance explains the difference badly *and* the difference is large: of 100,000 images every
difference is significant, and of ten images every difference is large.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, ks_2samp, mannwhitneyu

from tasks.monitoring.profiles import Doubles, Profile

LEAST_PSI = 0.2  # by custom a population has shifted from here on
LEAST_AUC = 0.65
_BINS = 10
_PERMUTATIONS = 1999
_FOLDS = 5
_COMPONENTS = 16  # more than a classifier of 100 images can use

Effect = Literal["PSI", "AUC"]


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """Whether a trait of the images of a window differs from that of the reference.

    Attributes:
        trait: Its name.
        reference: The number of images of the reference that have the trait.
        window: That of the window.
        measure: What `effect` is: the population stability index less what chance alone gives, from 0; or with how
            much area under the ROC curve a classifier tells the images apart, from 0.5 to 1.
        effect: How large the difference is; None if there are too few images, so also `p_value` and `q_value`.
        low: The lower end of the 95 % interval of an AUC.
        high: The upper end.
        p_value: How often chance alone gives such a difference.
        q_value: The same, corrected for the number of tests (Benjamini and Hochberg).
        drifted: Whether the difference is both large and significant.
        shares: Of the reference and of the window in each tenth of the reference, or of each class; none for an AUC.
        edges: The values between these tenths, ascending, fewer where many images have the same; none of classes.
    """

    trait: str
    reference: int
    window: int
    measure: Effect = "PSI"
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    drifted: bool = False
    shares: tuple[tuple[float, float], ...] = ()
    edges: tuple[float, ...] = ()


def compare_profiles(
    reference: Profile, window: Profile, classes: int, *, min_images: int, significance: float, seed: int = 0
) -> tuple[DriftTest, ...]:
    """Return a test of each trait; the same seed gives the same values.

    Args:
        reference: The images of the validation.
        window: The images to judge, with objects of the same least confidence.
        classes: The number of classes.
        min_images: Below it, in either of the two, a trait is not tested.
        significance: The share of false alarms among the alarms that is accepted.
        seed: Of the permutations and the folds.
    """
    rng = np.random.default_rng(seed)
    tests = [
        compare_values(trait, reference.pictures[trait], window.pictures[trait], min_images)
        for trait in reference.pictures
    ]
    tests.append(compare_values("objects an image", reference.objects, window.objects, min_images))
    for trait, name in (("object size", "size"), ("confidence", "confidence")):
        expected, found = (own.mean_of_objects(getattr(own, name)) for own in (reference, window))
        tests.append(compare_values(trait, expected, found, min_images))
    tests.append(_compare_classes(reference, window, classes, min_images, rng))
    if reference.embeddings.shape[1]:
        tests.append(_compare_embeddings(reference.embeddings, window.embeddings, min_images, seed))
    return _correct(tests, significance)


def stability_index(expected: Doubles, found: Doubles) -> float:
    """Return the population stability index of two histograms [bins], less what chance alone gives, from 0."""
    shares = [(own + 0.5) / (own + 0.5).sum() for own in (expected, found)]
    index = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    by_chance = (len(expected) - 1) * float(1 / expected.sum() + 1 / found.sum())
    return max(0.0, index - by_chance)


def _shares(expected: Doubles, found: Doubles) -> tuple[tuple[float, float], ...]:
    return tuple(zip((expected / expected.sum()).tolist(), (found / found.sum()).tolist(), strict=True))


def compare_values(trait: str, reference: Doubles, window: Doubles, min_images: int) -> DriftTest:
    """Return the test of one value of N and of M images, of which NaN counts as none; without a q-value."""
    reference, window = (own[np.isfinite(own)] for own in (reference, window))
    test = DriftTest(trait=trait, reference=len(reference), window=len(window))
    if min(len(reference), len(window)) < min_images:
        return test
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, _BINS + 1)[1:-1]))
    histograms = [
        np.bincount(np.searchsorted(edges, own, side="right"), minlength=len(edges) + 1).astype(np.float64)
        for own in (reference, window)
    ]
    with warnings.catch_warnings():
        # Of some small counts SciPy cannot sum the exact value, says so, and takes that of many images.
        warnings.simplefilter("ignore", RuntimeWarning)
        p_value = float(ks_2samp(reference, window).pvalue)
    effect, shares = stability_index(*histograms), _shares(*histograms)
    return replace(test, effect=effect, p_value=p_value, shares=shares, edges=tuple(edges.tolist()))


def _compare_classes(
    reference: Profile, window: Profile, classes: int, min_images: int, rng: np.random.Generator
) -> DriftTest:
    """Permutes images: the objects of one are not independent, which a chi-square test would take them for."""
    test = DriftTest(trait="classes", reference=len(reference), window=len(window))
    parts = [_class_counts(own, classes) for own in (reference, window)]
    if min(map(len, parts)) < min_images or not all(own.sum() for own in parts):
        return test
    counts = np.concatenate(parts)
    is_new = np.arange(len(counts)) >= len(reference)
    totals = [own.sum(axis=0) for own in parts]
    effect = stability_index(*totals)
    chosen = rng.permuted(np.tile(is_new, (_PERMUTATIONS, 1)), axis=1)
    found = np.concatenate([totals[1][None], chosen.astype(np.float64) @ counts])
    distances = _chi_square(counts.sum(axis=0), found)
    p_value = float((distances >= distances[0] - 1e-9).mean())
    return replace(test, effect=effect, p_value=p_value, shares=_shares(*totals))


def _class_counts(profile: Profile, classes: int) -> Doubles:
    """Return [N, classes]: the objects of each class in each image."""
    cells = np.bincount(profile.image * classes + profile.class_id, minlength=len(profile) * classes)
    return cells.reshape(-1, classes).astype(np.float64)


def _chi_square(total: Doubles, found: Doubles) -> Doubles:
    """Return for each row of `found` [n, classes] how far it is from its share of the `total` [classes]."""
    used = total > 0
    expected = total[used] * found.sum(axis=1, keepdims=True) / total.sum()
    return np.asarray((((found[:, used] - expected) ** 2) / expected).sum(axis=1))


def _compare_embeddings(reference: Doubles, window: Doubles, min_images: int, seed: int) -> DriftTest:
    """Tries to tell the images of the two apart: a classifier two-sample test (Lopez-Paz and Oquab, 2017)."""
    reference, window = (own[np.isfinite(own).all(axis=1)] for own in (reference, window))
    test = DriftTest(trait="embeddings", reference=len(reference), window=len(window), measure="AUC")
    if min(len(reference), len(window)) < min_images:
        return test
    scores = _cross_validated_scores(reference, window, seed)
    result = mannwhitneyu(scores[len(reference) :], scores[: len(reference)], alternative="greater")
    area = float(result.statistic) / (len(reference) * len(window))
    reach = 1.96 * _area_error(area, len(window), len(reference))
    return replace(
        test,
        effect=max(area, 0.5),
        low=max(area - reach, 0.0),
        high=min(area + reach, 1.0),
        p_value=float(result.pvalue),
    )


def _cross_validated_scores(reference: Doubles, window: Doubles, seed: int) -> Doubles:
    """Return for each image, those of the reference first, how much a classifier that never saw it takes it for new."""
    from sklearn.linear_model import LogisticRegression  # it takes a second to load
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    both = np.concatenate([reference, window])
    is_new: NDArray[np.bool_] = np.arange(len(both)) >= len(reference)
    classifier = LogisticRegression(C=0.1, class_weight="balanced", solver="newton-cholesky")
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    components = _principal_components(both)
    return np.asarray(cross_val_predict(classifier, components, is_new, cv=folds, method="decision_function"))


def _principal_components(embeddings: Doubles) -> Doubles:
    """Return the largest of all images, each with variance 1: they know nothing of which images are new."""
    spread = embeddings.std(axis=0)
    scaled = (embeddings - embeddings.mean(axis=0)) / np.where(spread > 0, spread, 1)
    vectors, lengths, _ = np.linalg.svd(scaled, full_matrices=False)
    used = lengths > lengths[0] * 1e-6
    return np.asarray(vectors[:, used][:, :_COMPONENTS] * np.sqrt(len(embeddings)))


def _area_error(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of an area under the ROC curve (Hanley and McNeil, 1982)."""
    above, below = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (above - area**2) + (negatives - 1) * (below - area**2)
    return float(np.sqrt(max(variance, 0.0) / (positives * negatives)))


def _correct(tests: Sequence[DriftTest], significance: float) -> tuple[DriftTest, ...]:
    made = [test for test in tests if test.p_value is not None]
    q_values = false_discovery_control([test.p_value for test in made]).tolist() if made else []
    corrected = {test.trait: q_value for test, q_value in zip(made, q_values, strict=True)}
    return tuple(
        replace(
            test,
            q_value=corrected[test.trait],
            drifted=corrected[test.trait] <= significance
            and (test.effect or 0) >= (LEAST_PSI if test.measure == "PSI" else LEAST_AUC),
        )
        if test.trait in corrected
        else test
        for test in tests
    )

"""A promise about labels that a model misses: at most a share of a class, with 95 % confidence.

Learn then test (Angelopoulos et al.): the thresholds are tried from the lowest up, and the last one counts before an
exact binomial bound on the share of missed labels goes above the promised share: the upper end of Clopper and Pearson's
95 % interval. The share grows with the threshold, so trying them in this order costs no confidence. The labels must be
a random sample of what the model will meet, and unseen in training. Labels of one image are missed together, so they
count as fewer (Korn and Graubard's effective sample size).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from tasks.evaluation.matching import Doubles, Ints, Matching

QUANTILE = 0.975  # on one side: it leaves room for the estimate of how far labels are missed together
_MOST_LABELS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The model misses at most `share` of a class, if detections count from `threshold` on.

    `threshold` is None if the labels cannot promise it: `missing_labels` more would do, if the model goes on to miss as
    many as now; None of them if it misses too many at any threshold. `missed` of the `labels` labels are missed at the
    threshold (or at the lowest), and `bound` is the largest share that this allows for.
    """

    share: float
    threshold: float | None
    labels: int
    missed: int
    bound: float
    missing_labels: int | None

    @property
    def limit(self) -> float | None:
        """The threshold in three digits: a promise also holds from each lower confidence on."""
        return None if self.threshold is None else round_down(self.threshold)


def round_down(threshold: float) -> float:
    """Return a threshold in three digits, and not above itself."""
    return math.floor(1000 * threshold) / 1000


def promise_misses(matching: Matching, class_id: int, share: float) -> Promise:
    """Return what the labels of a class promise; `share` is above 0 and below 1."""
    own = matching.label_class == class_id
    found, images = matching.found[own], matching.label_image[own]
    # Of no label any share may be missed.
    thresholds = np.concatenate([[0.0], np.unique(found[found > 0])])
    missed = np.searchsorted(np.sort(found), np.maximum(thresholds, 1e-12))
    # At a threshold at which the promised share is missed.
    effect = design_effect(found <= np.quantile(found, share, method="higher"), images) if len(found) else 1.0
    bounds = largest_share(missed / effect, np.full(len(missed), len(found) / effect))
    kept = int(np.argmax(np.append(bounds > share, True)))  # how many stand before the first that breaks it
    at = max(0, kept - 1)
    return Promise(
        share=share,
        threshold=float(thresholds[at]) if kept else None,
        labels=len(found),
        missed=int(missed[at]),
        bound=float(bounds[at]),
        missing_labels=0 if kept else _missing_labels(int(missed[0]), len(found), share, effect),
    )


def largest_share(missed: Doubles, labels: Doubles, confidence: float = QUANTILE) -> Doubles:
    """Return the largest share of misses that `missed` of `labels` allow for; numbers or arrays."""
    bound = betaincinv(missed + 1, np.maximum(labels - missed, 1e-12), confidence)
    return np.where(missed >= labels, 1.0, bound)


def _missing_labels(missed: int, labels: int, share: float, effect: float) -> int | None:
    rate = missed / labels if labels else 0.0
    if rate >= share:
        return None

    def enough(count: int) -> bool:
        return float(largest_share(np.array(rate * count / effect), np.array(count / effect))) <= share

    low, high = labels, max(1, 2 * labels)
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_LABELS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high - labels


def design_effect(outcomes: NDArray[np.bool_], images: Ints) -> float:
    """Return how many labels count as one, because those of an image share their outcome: 1 or more.

    It is the variance of the outcomes [N] by image [N], by that of labels whose outcomes are independent.
    """
    rate = outcomes.mean()
    groups = np.unique(images, return_inverse=True)[1]
    residuals = np.bincount(groups, outcomes - rate)
    labels, count = len(outcomes), len(residuals)
    if count in {1, labels} or rate in {0, 1}:  # without a variance an image counts as one label
        return labels / count
    variance = (residuals**2).sum() * count / (count - 1) / (labels * rate * (1 - rate))
    uncertainty = (stdtrit(count - 1, QUANTILE) / stdtrit(labels - 1, QUANTILE)) ** 2
    return float(max(1.0, variance * uncertainty))

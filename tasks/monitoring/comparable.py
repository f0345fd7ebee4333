"""From which confidence on images are compared whose detections were kept from different ones."""

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from tasks.monitoring.profiles import Doubles
from tasks.parameters import DEFAULT_CONFIDENCE


def choose_least(kept: Sequence[tuple[Doubles, AbstractSet[Hashable]]]) -> Doubles:
    """Return [classes] the confidence from which on images are compared; those that were kept from above it are not.

    The higher it is, the more images can be compared, and the less of each. It is that with the largest product of the
    number of images, each counted once, and the range of confidence above it, the mean of the classes; of equal ones
    the lowest. What is below 0.25 counts as nothing: the score was estimated as well from there on as from 0.01.

    Args:
        kept: From which confidence on some images were kept [classes], and which ones; at least one pair. The same
            image may have been kept several times.
    """
    limits = np.array([least for least, _ in kept], np.float64)
    rows = np.unique(limits, axis=0)
    rows = rows[np.argsort(rows.mean(axis=1), kind="stable")]
    # Runs with other limits for single classes can be compared from the higher of each class on.
    choices = np.concatenate([rows, np.maximum.accumulate(rows)])
    ranges = 1 - np.maximum(choices, DEFAULT_CONFIDENCE).mean(axis=1)
    counts = np.zeros(len(choices))
    for number, choice in enumerate(choices):
        known = (limits <= choice).all(axis=1)
        counts[number] = len(
            set[Hashable]().union(*(images for (_, images), own in zip(kept, known, strict=True) if own))
        )
    return np.asarray(choices[int(np.argmax(counts * ranges))])


def confidence_text(low: float, high: float) -> str:
    """Return from where on is compared, from the class with the lowest confidence to that with the highest."""
    return f"from confidence {low:.3g} on" if low == high else f"from confidence {low:.3g} to {high:.3g} on, by class"

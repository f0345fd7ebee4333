"""The metrics of a version on a set of images."""

from collections.abc import Mapping
from dataclasses import dataclass

# The first is the one that versions are compared by.
COCO_METRICS = ("mAP50-95", "mAP50", "mAP75", "recall", "mAP50-95 small", "mAP50-95 medium", "mAP50-95 large")
ACCURACY = "accuracy_top1"


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Metrics of `labels` labels by name, each from 0 to 1, or None if there is nothing to measure.

    They are `COCO_METRICS`: the average precision over overlaps from 0.50 to 0.95, at 0.50 and at 0.75, the recall over
    the same overlaps, and the first of them of objects below 32 x 32 pixels, below 96 x 96, and above; COCO has no
    small objects for pose. Of several classes each is the mean of theirs. For classify there is `ACCURACY` alone.
    """

    labels: int
    values: Mapping[str, float | None]

    @property
    def primary(self) -> float | None:
        """The value that versions are compared by."""
        return next(iter(self.values.values()))


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """The metrics over all classes, and by class id those of the classes with labels."""

    overall: Metrics
    by_class: Mapping[int, Metrics]

"""The metrics of a version on a set of images."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

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

    def over(self, classes: Collection[int]) -> "ClassMetrics":
        """Return the metrics over some of the classes alone."""
        by_class = {number: own for number, own in self.by_class.items() if number in classes}
        values = {name: _mean(name, by_class.values()) for name in self.overall.values}
        overall = Metrics(labels=sum(own.labels for own in by_class.values()), values=values)
        return ClassMetrics(overall=overall, by_class=by_class)


def shared_classes(metrics: Iterable[ClassMetrics]) -> frozenset[int]:
    """Return the classes over which all of these can be compared."""
    return frozenset.intersection(*(frozenset(each.by_class) for each in metrics))


def _mean(name: str, metrics: Collection[Metrics]) -> float | None:
    """The mean over classes; each image counts alike for the accuracy, and each class for COCO's metrics."""
    known = [own for own in metrics if own.values[name] is not None]
    values = [own.values[name] or 0.0 for own in known]
    return fmean(values, [own.labels if name == ACCURACY else 1 for own in known]) if known else None

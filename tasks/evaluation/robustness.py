"""What is left of a version's metrics if the images are corrupted."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import fmean

from tasks.evaluation.corruption import Corruption
from tasks.evaluation.metrics import ClassMetrics


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The metrics on some images as they are, and with each corruption."""

    images: int
    clean: ClassMetrics
    corrupted: Mapping[Corruption, ClassMetrics]

    @property
    def mean(self) -> float | None:
        """The mean of the main metric over all corruptions; None if there is nothing to measure."""
        scores = [score for each in self.corrupted.values() if (score := each.overall.primary) is not None]
        return fmean(scores) if scores else None

    def over(self, classes: Collection[int]) -> "Robustness":
        """Return the same over some of the classes alone."""
        corrupted = {corruption: each.over(classes) for corruption, each in self.corrupted.items()}
        return Robustness(images=self.images, clean=self.clean.over(classes), corrupted=corrupted)

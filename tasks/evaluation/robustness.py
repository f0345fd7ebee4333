"""What is left of a version's main metric if the images are corrupted."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from tasks.evaluation.corruption import Corruption


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The main metric (0 to 1) on some images as they are, and with each corruption."""

    images: int
    clean: float
    scores: Mapping[Corruption, float]

    @property
    def mean(self) -> float:
        """The mean over all corruptions."""
        return fmean(self.scores.values())

"""The metrics of a model on one set of labelled images."""

from collections.abc import Mapping
from dataclasses import dataclass

# The metric by which models of a task are compared; its lenient variant says whether a model is of any use.
PRIMARY_METRIC = {
    "detect": "mAP50-95",
    "obb": "mAP50-95",
    "segment": "mAP50-95_mask",
    "pose": "mAP50-95_pose",
    "classify": "accuracy_top1",
}
MAP50_METRIC = {task: name.replace("-95", "") for task, name in PRIMARY_METRIC.items()}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics by name over all classes, and of each class that the images show; all from 0 to 1.

    `classes` maps a class to its metrics by name: `mAP50` and `mAP50-95` (of boxes, and with `_mask` or `_pose` after
    them), or `accuracy_top1` for classification. A class without labels in these images is not in it.
    """

    task: str
    metrics: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]]
    images: int

    @property
    def primary(self) -> float:
        """The value that models are compared by."""
        return self.metrics.get(PRIMARY_METRIC[self.task], 0.0)

    @property
    def map50_or_accuracy(self) -> float:
        """The value that a promotion asks a minimum of."""
        return self.metrics.get(MAP50_METRIC[self.task], 0.0)

    @property
    def by_class(self) -> dict[str, float]:
        """The main metric of each class."""
        return {name: metrics.get(PRIMARY_METRIC[self.task], 0.0) for name, metrics in self.classes.items()}

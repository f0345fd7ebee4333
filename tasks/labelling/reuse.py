"""Which predictions of an earlier run lose nothing that labels need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.inference.postprocess import class_thresholds
from tasks.labelling.thresholds import LabelThreshold
from tasks.parameters import InferenceParams

_ROUNDING = 1e-6  # of a confidence that was stored in 32 bits


@dataclass(frozen=True)
class LabelNeeds:
    """The confidence of each class [C] from which on its detections are needed."""

    confidences: tuple[float, ...]

    @property
    def least(self) -> float:
        """The confidence from which on something is needed."""
        return min(self.confidences)

    def are_met_by(self, inference: InferenceParams, class_names: Sequence[str]) -> bool:
        """Return whether a run with these parameters has kept all of it, found as validation finds it."""
        try:
            kept = class_thresholds(class_names, inference)
        except ValueError:  # of a class that the version does not have
            return False
        alike = inference.tiles is None and inference.iou == InferenceParams().iou
        return alike and bool((kept <= np.array(self.confidences) + _ROUNDING).all())


def label_needs(task: str, thresholds: Sequence[LabelThreshold]) -> LabelNeeds:
    """Return what is needed of each class; of the classes of an image as a whole (classify) only what is taken."""
    if task == "classify":
        return LabelNeeds(tuple(1.0 if each.high is None else each.high for each in thresholds))
    return LabelNeeds(tuple(each.low for each in thresholds))

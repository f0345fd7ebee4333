"""Which predictions of an earlier run lose nothing that labels need."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.inference.kept_detections import KeptDetections
from tasks.labelling.thresholds import LabelThreshold
from tasks.parameters import InferenceParams


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
            return KeptDetections.of(inference, class_names, self.confidences).is_usual
        except ValueError:  # of a class that the version does not have
            return False


def label_needs(task: str, thresholds: Sequence[LabelThreshold]) -> LabelNeeds:
    """Return what is needed of each class; of the classes of an image as a whole (classify) only what is taken."""
    if task == "classify":
        return LabelNeeds(tuple(1.0 if each.high is None else each.high for each in thresholds))
    return LabelNeeds(tuple(each.low for each in thresholds))

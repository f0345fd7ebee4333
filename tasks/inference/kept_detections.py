"""What a run of inference has kept of what its model saw, beside what is needed of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tasks.inference.postprocess import class_thresholds
from tasks.parameters import InferenceParams

_ROUNDING = 1e-6  # of a confidence that was stored in 32 bits


@dataclass(frozen=True, kw_only=True)
class KeptDetections:
    """How far the detections of a run are what is needed.

    Attributes:
        lost: The classes of which it has not kept all that is needed, with the confidence from which it has.
        overlap: Its limit for boxes of a class that overlap (IoU) if that is stricter than the usual one, else None.
        tiled: Whether it has looked for small objects in tiles as well.
    """

    lost: Mapping[str, float]
    overlap: float | None
    tiled: bool

    @classmethod
    def of(cls, inference: InferenceParams, class_names: Sequence[str], needed: Sequence[float]) -> Self:
        """Compare the parameters of a run with the confidences [C] from which on the classes are needed.

        Raises:
            ValueError: The parameters name a class that the model does not have.
        """
        kept = class_thresholds(class_names, inference).tolist()
        pairs = zip(class_names, kept, needed, strict=True)
        return cls(
            lost={name: own for name, own, least in pairs if own > least + _ROUNDING},
            overlap=inference.iou if inference.iou < InferenceParams().iou else None,
            tiled=inference.tiles is not None,
        )

    @property
    def is_usual(self) -> bool:
        """Whether they are all that is needed, found as validation finds it."""
        return not (self.lost or self.overlap or self.tiled)

"""What a model makes of an image before its head decides: the features of its neck."""

from typing import Any

import numpy as np

from tasks.vision.geometry import Floats


class HeadInputs:
    """Keeps what the head of a model last got, for the first image of the batch.

    Ultralytics' own `embed` pools one layer, in a pass that ends before the head; the head reads up to three layers,
    and here they come with the detections.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a YOLO object; ultralytics ships no types
        self._last = last = list[Floats]()

        def keep(_: object, inputs: tuple[Any, ...]) -> None:  # Ultralytics copies the model: a method would be copied
            levels = inputs[0] if isinstance(inputs[0], list | tuple) else inputs
            last[:] = [level[0].float().mean(dim=(1, 2)).cpu().numpy() for level in levels]

        model.model.model[-1].register_forward_pre_hook(keep)

    def embedding(self) -> Floats:
        """Return the mean of each channel over the image, [D] float32 of length 1.

        Each level counts the same: the deep ones have more channels, and larger values.
        """
        vector = np.concatenate([_unit(level) for level in self._last])
        return _unit(vector)


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)

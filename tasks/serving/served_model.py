"""A model version as Triton serves it: what a client has to know to use it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# Of every served graph, as in Ultralytics' validation: clients filter higher, and mAP needs the weak detections.
NMS_CONFIDENCE = 0.001
NMS_IOU = 0.7
# The files of precisions that have a graph of their own beside the exported one; model_repository/graph/model.py has
# the same.
PRECISION_GRAPHS = {"int8": "model.int8.onnx", "int8-mixed": "model.int8-mixed.onnx"}


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One pinned version: images go in at `image_size` x `image_size` pixels.

    `thresholds` are confidences by class name, as they were kept with the version when it was deployed; None if none
    were. `digest` is the SHA-256 of its graph in hex; `precision` is its arithmetic: f32, f16,
    bf16, int8 or int8-mixed. `max_batch_size`
    is the most images in one request, as it is served now. `aside` is the name under which Triton serves it beside the
    champion, empty if that is the model's own, and `until` the end of that in seconds since 1970.
    """

    name: str
    version: int
    task: str
    image_size: int
    class_names: tuple[str, ...]
    run_id: str
    thresholds: Mapping[str, float] | None = None
    digest: str = ""
    precision: str = "f32"
    max_batch_size: int = field(default=1, compare=False)
    aside: str = ""
    until: float = field(default=math.inf, compare=False)

    @property
    def entry(self) -> str:
        """The name under which Triton serves this version."""
        return self.aside or self.name

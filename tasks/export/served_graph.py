"""From Ultralytics' graph to the served one: normalisation before it, NMS and the outputs of the task after it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
import onnxslim
from onnx import compose, parser

from tasks.errors import ExportError
from tasks.export import onnx_snippets
from tasks.serving.served_model import NMS_CONFIDENCE, NMS_IOU
from tasks.serving.task_outputs import MAX_DETECTIONS, output_shapes

Task = Literal["detect", "segment", "pose", "obb", "classify"]

MAX_ROTATED = 2000  # boxes of an image that are compared with each other; Ultralytics' own export compares 1500
OPSET = 18
IR_VERSION = 10
_EPS = 1e-7  # Ultralytics' own in probiou


@dataclass(frozen=True, kw_only=True)
class Head:
    """The outputs of a model as Ultralytics exports it.

    `anchors` is the number of boxes of an image, `extra` that of their values beside box and scores: mask coefficients,
    keypoints (`keypoints` of `extra / keypoints` values each) or an angle. A classifier has no anchors.
    """

    task: Task
    classes: int
    anchors: int = 0
    extra: int = 0
    keypoints: int = 0
    nms_free: bool = False

    @property
    def rows(self) -> int:
        """The most detections that an image can have."""
        return min(MAX_DETECTIONS, self.anchors)

    def outputs(self, image_size: int) -> list[list[int]]:
        """Return the shapes of the outputs, without N, for images of `image_size` x `image_size` pixels."""
        if self.task == "classify":
            return [[self.classes]]
        proposals = [4 + self.classes + self.extra, self.anchors]
        prototypes = [[self.extra, image_size // 4, image_size // 4]] if self.task == "segment" else []
        return [proposals, *prototypes]


def served_outputs(head: Head, image_size: int) -> dict[str, tuple[int, ...]]:
    """Return the outputs of the served graph and their shapes without N; all are float32."""
    sizes = {"C": head.classes, "M": head.extra, "K": head.keypoints, "S/4": image_size // 4}
    return output_shapes(head.task, sizes)


def served_graph(raw: onnx.ModelProto, head: Head, image_size: int) -> onnx.ModelProto:
    """Return Ultralytics' graph with normalisation before it and NMS after it; N stays open.

    `raw` maps float `[N,3,S,S]` to `[N,4+C+E,A]` (box in pixels, C class scores, E extra values), for a classifier to
    `[N,C]`; a segmenter has prototypes `[N,E,S/4,S/4]` as well. The box is centre and size, but corners if the head
    needs no NMS and is not obb.

    Raises:
        ExportError: The outputs are not those of `head`.
    """
    raw = _fix_size(raw, image_size)
    found = [[dim.dim_value for dim in out.type.tensor_type.shape.dim][1:] for out in raw.graph.output]
    expected = head.outputs(image_size)
    if found != expected:
        raise ExportError(
            f"expected a {head.task} model that answers an image with arrays of {expected}, found {found}: such heads "
            "are not served, train from a model such as yolo11n.pt"
        )
    versions = {"ir": IR_VERSION, "opset": OPSET}
    before = parser.parse_model(onnx_snippets.BEFORE.format(**versions, size=image_size))
    after = parser.parse_model(
        onnx_snippets.AFTER.format(
            **versions,
            inputs=_signature(dict(zip(("raw", "raw_prototypes"), expected, strict=False))),
            outputs=_signature(served_outputs(head, image_size)),
            statements="".join(_statements(head)),
        )
    )
    graph = _chain(_chain(before, raw), after)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _signature(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"float[{','.join(map(str, ['N', *shape]))}] {name}" for name, shape in shapes.items())


def _statements(head: Head) -> list[str]:
    """The body of AFTER."""
    if head.task == "classify":
        return [onnx_snippets.RENAME.format(name="scores", source="raw")]
    constants = onnx_snippets.CONSTANTS.format(confidence=NMS_CONFIDENCE, rows=head.rows)
    return [constants, *_best_rows(head), *_outputs(head)]


def _best_rows(head: Head) -> list[str]:
    sections = {"anchor_boxes": 4, "scores": head.classes} | ({"anchor_extra": head.extra} if head.extra else {})
    anchors = onnx_snippets.ANCHORS.format(columns=", ".join(sections), sections=list(sections.values()))
    extra = [onnx_snippets.TOP_EXTRA] if head.extra else []
    if head.nms_free:
        return [anchors, onnx_snippets.TOP_PAIRS.format(classes=head.classes), *extra]
    return [anchors, onnx_snippets.BEST_CLASS.format(), _suppression(head), onnx_snippets.TOP, *extra]


def _suppression(head: Head) -> str:
    if head.task != "obb":
        return onnx_snippets.NMS.format(iou=NMS_IOU)
    distance = -math.log(1 + _EPS - (1 - NMS_IOU) ** 2)
    return onnx_snippets.NMS_ROTATED.format(most=min(MAX_ROTATED, head.anchors), distance=distance)


def _outputs(head: Head) -> list[str]:
    missing = MAX_DETECTIONS - head.rows
    mask = onnx_snippets.MASK.format(corners="hull" if head.task == "obb" else "box", missing=missing)
    detections = [mask, _output("detections", "detection_rows")]
    match head.task:
        case "segment":
            prototypes = onnx_snippets.RENAME.format(name="prototypes", source="raw_prototypes")
            return [*detections, _output("coefficients", "extra"), prototypes]
        case "pose":
            return [*detections, *_keypoints(head)]
        case "obb":
            return [onnx_snippets.ENCLOSING_BOX, *detections, _output("rotated", "rotated_rows")]
    return detections


def _keypoints(head: Head) -> list[str]:
    shaped = onnx_snippets.KEYPOINTS.format(keypoints=head.keypoints)
    if head.extra == 3 * head.keypoints:
        return [_output("keypoint_rows", "extra"), shaped]
    visible = onnx_snippets.VISIBLE.format(keypoints=head.keypoints, values=3 * head.keypoints)
    return [visible, _output("keypoint_rows", "visible"), shaped]


def _output(name: str, source: str) -> str:
    return onnx_snippets.OUTPUT.format(name=name, source=source)


def _fix_size(raw: onnx.ModelProto, image_size: int) -> onnx.ModelProto:
    """A copy for one image size, with constant anchors and without metadata; N stays open.

    Ultralytics writes the time and class names, not always those of the training, into the metadata.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(raw)
    fixed.ir_version = IR_VERSION
    for dim in fixed.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = image_size
    del fixed.graph.value_info[:]
    del fixed.metadata_props[:]
    slimmed: onnx.ModelProto = onnxslim.slim(fixed)
    return slimmed


def _chain(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """`second` after `first`: outputs become inputs in their order; the ends keep their names."""
    prefix = f"{second.graph.name}/"
    second = compose.add_prefix(second, prefix, rename_outputs=False)
    io_map = [(out.name, entry.name) for out, entry in zip(first.graph.output, second.graph.input, strict=True)]
    return compose.merge_models(first, second, io_map=io_map)

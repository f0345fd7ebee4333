"""Ultralytics' own ONNX export, and the head of the model."""

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from tasks.errors import ExportError
from tasks.export.served_graph import OPSET, Head
from tasks.serving.task_outputs import MAX_DETECTIONS
from tasks.weights.loader import open_model

_STRIDE = 32  # Ultralytics trains classifiers, whose own stride is 1, at multiples of this


def raw_graph(weights: Path, image_size: int) -> tuple[onnx.ModelProto, Head]:
    """Return Ultralytics' own graph (NCHW floats in), written beside the weights, and its head.

    Raises:
        ExportError: The model is not for that image size.
        WeightsError: It is not served.
    """
    # Read when Ultralytics is first imported: a step installs and fetches nothing.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    model = open_model(str(weights))
    strides = [_STRIDE] if model.task == "classify" else [int(stride) for stride in model.model.model[-1].stride]
    if image_size < 1 or image_size % max(strides):
        raise ExportError(f"image size {image_size}: expected a multiple of {max(strides)} pixels, the model's stride")
    head = _head(model, sum((image_size // stride) ** 2 for stride in strides))
    try:
        return onnx.load(_onnx(model, image_size, head)), head
    except Exception as error:  # whatever the tracer raises for the code of a model
        raise ExportError(f"Ultralytics cannot export this {head.task} model to ONNX: {error}") from error


def _onnx(model: Any, image_size: int, head: Head) -> str:  # noqa: ANN401  # Ultralytics has no types
    if head.nms_free:
        model.model.model[-1].postprocess = _every_anchor  # the served graph chooses the best
    chosen = {"nms": False if head.nms_free else None, "max_det": MAX_DETECTIONS, "imgsz": image_size}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about code that is not ours
        return str(
            model.export(
                format="onnx", opset=OPSET, dynamic=True, simplify=False, device="cpu", verbose=False, **chosen
            )
        )


def _every_anchor(proposals: Any) -> Any:  # noqa: ANN401
    """As heads with NMS have them: `[N,A,4+C+E]` -> `[N,4+C+E,A]`."""
    return proposals.permute(0, 2, 1)


def _head(model: Any, anchors: int) -> Head:  # noqa: ANN401
    head = model.model.model[-1]
    classes = len(model.names)
    if model.task == "classify":
        return Head(task="classify", classes=classes)
    # After fusing, some NMS-free models (YOLO26, YOLOv10) keep only the head that needs no NMS.
    plain = Head(task=model.task, classes=classes, anchors=anchors, nms_free=head.cv2 is None)
    match model.task:
        case "segment":
            return replace(plain, extra=head.nm)
        case "pose":
            return replace(plain, extra=head.nk, keypoints=head.kpt_shape[0])
        case "obb":
            return replace(plain, extra=head.ne)
    return plain

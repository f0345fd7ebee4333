"""Images as a served graph takes them, and its outputs as detections."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.serving.served_model import NMS_IOU
from tasks.serving.task_outputs import MAX_DETECTIONS
from tasks.vision.detections import Detections, pack_masks
from tasks.vision.geometry import (
    COORDINATE_LIMIT,
    Floats,
    Letterbox,
    Rgb,
    Rows,
    center_crop,
    select_detections,
)
from tasks.vision.masks import instance_mask

Outputs = Mapping[str, Floats]


def preprocess(image: Rgb, task: str, size: int) -> tuple[Rgb, Letterbox]:
    """Return the [size, size, 3] input of the graph of a task, and the place of the image in it.

    A classifier sees the centre of the image: the letterbox then holds only the image's sides.
    """
    letterbox = Letterbox.fit(image.shape[1], image.shape[0], size)
    return center_crop(image, size) if task == "classify" else letterbox.apply(image), letterbox


def postprocess(
    outputs: Outputs,
    task: str,
    letterbox: Letterbox,
    confidence: float = 0.0,
    iou: float = NMS_IOU,
    masks: int = MAX_DETECTIONS,
) -> Detections:
    """Return the detections in one image's outputs (without their first dimension), in pixels of that image.

    Left out are rows below `confidence`, unused rows, rows with NaN, boxes in the padding and detections with an empty
    mask. `iou` has an effect if it is stricter than the NMS in the graph, and compares the hulls of rotated boxes.
    Masks are made for the `masks` best.

    Raises:
        ValueError: An output is missing or has another shape.
    """
    if task == "classify":
        return Detections.empty(letterbox.width, letterbox.height, class_scores=_output(outputs, "scores", 1))
    table = _output(outputs, "detections", 2)
    if table.shape[1] != 6:
        fix = "serve a detection model that deploy_model exported"
        raise ValueError(f"expected detections of shape [n, 6], found {list(table.shape)}; {fix}")
    rows = select_detections(table, confidence, iou if iou < NMS_IOU else None)
    # A broken graph may give any finite number: keep areas and class numbers inside their types.
    kept = np.clip(table[rows], -COORDINATE_LIMIT, COORDINATE_LIMIT)
    own: dict[str, Any] = {}
    if task == "segment":
        own["mask"] = _masks(outputs, rows[:masks], kept[:masks, :4], letterbox.size)
    if task == "pose":
        own["keypoints"] = letterbox.points_to_image(_output(outputs, "keypoints", 3)[rows])
    if task == "obb":
        own["xywhr"] = letterbox.rotated_to_image(_output(outputs, "rotated", 2)[rows])
    detections = Detections(
        width=letterbox.width,
        height=letterbox.height,
        xyxy=letterbox.to_image(kept[:, :4]),
        confidence=kept[:, 4],
        class_id=kept[:, 5].astype(np.int32),
        **own,
    )
    return detections.select(has_visible_area(detections))


def has_visible_area(detections: Detections) -> NDArray[np.bool_]:
    """Return which of n detections have an area inside the image, and a mask that is not empty if they have one."""
    real = (detections.xyxy[:, 2] > detections.xyxy[:, 0]) & (detections.xyxy[:, 3] > detections.xyxy[:, 1])
    if detections.mask is not None:
        real[: len(detections.mask)] &= detections.mask.any(axis=(1, 2))
    return np.asarray(real, np.bool_)


def _output(outputs: Outputs, name: str, dimensions: int) -> Floats:
    values = np.asarray(outputs.get(name, np.float32(0)), np.float32)
    if values.ndim != dimensions:
        raise ValueError(
            f"expected output {name} of {dimensions} dimensions for an image, found "
            f"{list(values.shape) if name in outputs else 'none'}; serve a model that deploy_model exported"
        )
    return values


def _masks(outputs: Outputs, rows: Rows, boxes: Floats, size: int) -> NDArray[np.uint8]:
    prototypes = _output(outputs, "prototypes", 3)
    coefficients = _output(outputs, "coefficients", 2)[rows]
    packed = np.zeros((len(rows), size, (size + 7) // 8), np.uint8)
    # Packed one by one: a byte a pixel for all of them would take 1.7 GB at 4096 pixels.
    for row, box, weights in zip(packed, boxes, coefficients, strict=True):
        mask, left, top = instance_mask(box, weights, prototypes, size)
        whole = np.zeros((1, size, size), np.bool_)
        whole[0, top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        row[:] = pack_masks(whole)[0]
    return packed

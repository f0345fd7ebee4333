"""The arrays that a served graph answers with, of any task, as what was found in the image."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.serving.served_model import NMS_IOU
from tasks.serving.task_outputs import MAX_DETECTIONS
from tasks.vision.detections import Detections, pack_masks
from tasks.vision.geometry import Floats, Letterbox, Rgb, center_crop, non_max_suppression

COORDINATE_LIMIT = 1e6  # pixels, and classes

Outputs = Mapping[str, Floats]


def preprocess(image: Rgb, task: str, size: int) -> tuple[Rgb, Letterbox]:
    """Return the [size, size, 3] square that the graph of a task is asked about, and how the image sits in it.

    A classifier sees the centre of the image, so there the letterbox says nothing but the image's sides.
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
    """Read one image's outputs (the served arrays without their first dimension) in pixels of that image.

    Rows below `confidence` go, so do unused rows, rows with a number that is none, boxes that lie in the padding and
    detections whose mask is empty. `iou` takes effect where it is stricter than the NMS in the graph, and compares the
    hulls of rotated boxes. Masks are made for the `masks` best. Raises ValueError where an output is missing or has
    another shape.
    """
    if task == "classify":
        return Detections.empty(letterbox.width, letterbox.height, class_scores=_output(outputs, "scores", 1))
    rows = _select_usable_rows(_output(outputs, "detections", 2), confidence)
    rows = non_max_suppression(rows, iou) if iou < NMS_IOU else rows[np.argsort(-rows[:, 4], kind="stable")]
    numbers = rows[:, 6].astype(np.intp)
    own: dict[str, Any] = {}
    if task == "segment":
        own["mask"] = _masks(outputs, numbers[:masks], rows[:masks], letterbox.size)
    if task == "pose":
        own["keypoints"] = letterbox.points_to_image(_output(outputs, "keypoints", 3)[numbers])
    if task == "obb":
        own["xywhr"] = letterbox.rotated_to_image(_output(outputs, "rotated", 2)[numbers])
    found = Detections(
        width=letterbox.width,
        height=letterbox.height,
        xyxy=letterbox.to_image(rows[:, :4]),
        confidence=rows[:, 4],
        class_id=rows[:, 5].astype(np.int32),
        **own,
    )
    return found.select(has_visible_area(found))


def has_visible_area(found: Detections) -> NDArray[np.bool_]:
    """Say of n detections which have an area inside the image, and a mask with a pixel in it where they have one."""
    real = (found.xyxy[:, 2] > found.xyxy[:, 0]) & (found.xyxy[:, 3] > found.xyxy[:, 1])
    if found.mask is not None:
        real[: len(found.mask)] &= found.mask.any(axis=(1, 2))
    return np.asarray(real, np.bool_)


def _output(outputs: Outputs, name: str, dimensions: int) -> Floats:
    values = np.asarray(outputs.get(name, np.float32(0)), np.float32)
    if values.ndim != dimensions:
        raise ValueError(
            f"expected output {name} of {dimensions} dimensions for an image, found "
            f"{list(values.shape) if name in outputs else 'none'}; serve a model that deploy_model exported"
        )
    return values


def _select_usable_rows(output: Floats, confidence: float) -> Floats:
    """Rows with their numbers as a seventh column."""
    if output.shape[1] != 6:
        raise ValueError(
            f"expected detections of shape [n, 6], found {list(output.shape)}; "
            "serve a detection model that deploy_model exported"
        )
    rows = np.column_stack([output, np.arange(len(output), dtype=np.float32)])
    rows = rows[np.isfinite(rows).all(axis=1)]
    # Padding rows have confidence 0, which a threshold of 0 would let through.
    rows = rows[(rows[:, 4] >= confidence) & (rows[:, 4] > 0)]
    # A broken graph may say anything finite: keep areas and class numbers inside their types.
    return np.clip(rows, -COORDINATE_LIMIT, COORDINATE_LIMIT)


def _masks(outputs: Outputs, numbers: NDArray[np.intp], rows: Floats, size: int) -> NDArray[np.uint8]:
    """Masks as Ultralytics makes them: combined, enlarged to the square, cut at 0 and at the edges of their boxes."""
    prototypes = _output(outputs, "prototypes", 3)
    linear = _output(outputs, "coefficients", 2)[numbers] @ prototypes.reshape(len(prototypes), -1)
    packed = np.zeros((len(rows), size, (size + 7) // 8), np.uint8)
    corners = np.ceil(np.clip(rows[:, :4], 0, size)).astype(int).tolist()
    # Packed one by one: a truth a pixel for all of them would take 1.7 GB at 4096 pixels.
    for place, values, (left, top, right, bottom) in zip(packed, linear, corners, strict=True):
        whole = cv2.resize(values.reshape(prototypes.shape[1:]), (size, size), interpolation=cv2.INTER_LINEAR)
        mask = np.zeros((1, size, size), np.bool_)
        mask[0, top:bottom, left:right] = whole[top:bottom, left:right] > 0
        place[:] = pack_masks(mask)[0]
    return packed

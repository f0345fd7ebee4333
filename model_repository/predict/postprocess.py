"""The outputs of a model as JSON for its client, in pixels of the image."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import PredictError
from .geometry import COORDINATE_LIMIT, Floats, Letterbox, Rows, select_detections, xywhr_to_corners
from .masks import instance_mask, mask_to_polygon
from .model_lookup import ServedModel
from .request import AUTO, CONFIDENCE, SERVED_IOU, PredictRequest


def detections_to_json(
    model: ServedModel, outputs: Mapping[str, Floats], letterbox: Letterbox, request: PredictRequest
) -> dict[str, Any]:
    """Return boxes, labels and scores, best first, and by task `polygons` or `keypoints`, entry i for box i.

    `outputs` are those of one image, see `task_outputs.OUTPUTS`. An object with an empty mask is left out. Of rotated
    boxes, `boxes` are the upright ones around them, which `iou` compares.

    Raises:
        PredictError: The request asks for thresholds that the version does not have.
    """
    detections = outputs["detections"]
    thresholds = _thresholds(model, request, detections[:, 5], CONFIDENCE)
    rows = select_detections(detections, thresholds, request.iou if request.iou < SERVED_IOU else None)
    boxes = letterbox.to_image(detections[:, :4])
    rows = rows[(boxes[rows, 2:] > boxes[rows, :2]).all(axis=1)]
    shapes: dict[str, Any] = {}
    if model.task == "segment":
        rings = {row: _outline(outputs, row, letterbox) for row in rows.tolist()}
        rows = np.array([row for row, ring in rings.items() if len(ring)], np.intp)
        shapes["polygons"] = [_rounded(ring, 1) for ring in rings.values() if len(ring)]
    if model.task == "obb":
        shapes["polygons"] = _rounded(letterbox.corners_to_image(xywhr_to_corners(outputs["rotated"][rows])), 2)
    if model.task == "pose":
        shapes["keypoints"] = _rounded(letterbox.points_to_image(outputs["keypoints"][rows]), 2)
    return {
        "boxes": _rounded(boxes[rows], 2),
        "labels": [_label(model, int(number)) for number in detections[rows, 5]],
        "scores": _rounded(detections[rows, 4], 4),
    } | shapes


def class_scores_to_json(model: ServedModel, scores: Floats, request: PredictRequest) -> dict[str, Any]:
    """Return labels and their probabilities as scores, most probable first; those under `confidence` are left out.

    Raises:
        PredictError: The request asks for thresholds that the version does not have.
    """
    # Two lists and no object: JavaScript would sort names that are numbers, and two classes of one name would be one.
    order = np.argsort(-scores, kind="stable")
    kept = order[scores[order] >= _thresholds(model, request, order, 0.0)]
    return {"labels": [_label(model, int(number)) for number in kept], "scores": _rounded(scores[kept], 4)}


def _thresholds(model: ServedModel, request: PredictRequest, classes: Floats | Rows, default: float) -> Floats:
    """The least confidence of each of these classes [n]; `default` if the request names none."""
    if request.confidence != AUTO:
        return np.full(len(classes), default if request.confidence is None else request.confidence, np.float32)
    if model.thresholds is None:
        raise PredictError(
            f"expected thresholds with {model.name} version {model.version} for `confidence` auto, found that it was "
            "deployed without: run evaluate-model on it, then deploy-model with that version, or give a number"
        )
    by_class = [model.thresholds.get(name, CONFIDENCE) for name in model.class_names] or [CONFIDENCE]
    # A broken graph may say any class.
    known = np.clip(np.nan_to_num(classes), 0, len(by_class) - 1).astype(np.intp)
    return np.asarray(np.array(by_class)[known], np.float32)


def _outline(outputs: Mapping[str, Floats], row: int, letterbox: Letterbox) -> Floats:
    box, coefficients = outputs["detections"][row, :4], outputs["coefficients"][row]
    mask, left, top = instance_mask(box, coefficients, outputs["prototypes"], letterbox.size)
    return letterbox.points_to_image(mask_to_polygon(mask) + np.array([left, top], np.float32))


def _label(model: ServedModel, number: int) -> str:
    return model.class_names[number] if 0 <= number < len(model.class_names) else f"class {number}"


def _rounded(values: Floats, digits: int) -> Any:  # noqa: ANN401  # nested lists as deep as the array
    # JSON has no infinity.
    finite = np.nan_to_num(np.asarray(values, np.float64))
    return np.round(np.clip(finite, -COORDINATE_LIMIT, COORDINATE_LIMIT), digits).tolist()

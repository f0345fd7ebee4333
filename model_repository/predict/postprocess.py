"""What a model answered -> what its client is told, in pixels of the picture that was sent."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .model_lookup import ServedModel
from .preprocess import Floats, Letterbox
from .request import CONFIDENCE, SERVED_IOU, PredictRequest

# A corner that lies this close to the line between its neighbours, in pixels of the square, is left out of an outline.
OUTLINE_TOLERANCE = 0.5
COORDINATE_LIMIT = 1e6  # pixels; a broken graph may say anything, JSON has no word for infinity


def detections_to_json(
    model: ServedModel, outputs: Mapping[str, Floats], box: Letterbox, asked: PredictRequest
) -> dict[str, Any]:
    """Return boxes, labels and scores, best first, and by task `polygons` or `keypoints`, entry i for box i.

    `outputs` are those of one picture: detections [300, 6] and the others of its task, see `served.OUTPUTS`. An object
    whose mask is empty is left out. Of turned boxes, `boxes` are the upright ones around them, which `iou` compares.
    """
    detections = outputs["detections"]
    threshold = CONFIDENCE if asked.confidence is None else asked.confidence
    # Unused rows have confidence 0, which a threshold of 0 would let through.
    good = (detections[:, 4] >= threshold) & (detections[:, 4] > 0) & np.isfinite(detections).all(axis=1)
    rows = np.flatnonzero(good)[np.argsort(-detections[good, 4], kind="stable")]
    if asked.iou < SERVED_IOU:
        rows = rows[_non_max_suppression(detections[rows], asked.iou)]
    corners = box.clip(box.to_picture(detections[:, :4].reshape(-1, 2, 2)))
    rows = rows[(corners[rows, 1] > corners[rows, 0]).all(axis=1)]
    shapes: dict[str, Any] = {}
    if model.task == "segment":
        rings = {row: _ring(outputs, row, box) for row in rows.tolist()}
        rows = np.array([row for row, ring in rings.items() if len(ring)], np.intp)
        shapes["polygons"] = [_rounded(ring, 1) for ring in rings.values() if len(ring)]
    if model.task == "obb":
        shapes["polygons"] = _rounded(box.to_picture(xywhr_to_corners(outputs["rotated"][rows])), 2)
    if model.task == "pose":
        points = outputs["keypoints"][rows]
        places = box.clip(box.to_picture(points[..., :2]))
        shapes["keypoints"] = _rounded(np.concatenate([places, points[..., 2:]], axis=-1), 2)
    return {
        "boxes": _rounded(corners[rows].reshape(-1, 4), 2),
        "labels": [_label(model, int(number)) for number in detections[rows, 5]],
        "scores": _rounded(detections[rows, 4], 4),
    } | shapes


def class_scores_to_json(model: ServedModel, scores: Floats, asked: PredictRequest) -> dict[str, Any]:
    """Return labels and their probabilities as scores, most probable first; those under `confidence` are left out.

    Two lists and no object: JavaScript would sort names that are numbers, and two classes of one name would become one.
    """
    order = np.argsort(-scores, kind="stable")
    kept = order[scores[order] >= (asked.confidence or 0)]
    return {"labels": [_label(model, int(number)) for number in kept], "scores": _rounded(scores[kept], 4)}


def _ring(outputs: Mapping[str, Floats], row: int, box: Letterbox) -> Floats:
    corners, weights = outputs["detections"][row, :4], outputs["coefficients"][row]
    return box.clip(box.to_picture(mask_to_polygon(corners, weights, outputs["prototypes"], box.size)))


def mask_to_polygon(corners: Floats, weights: Floats, prototypes: Floats, size: int) -> Floats:
    """Return the outline [n, 2] of the largest part of a mask, in pixels of the square; [0, 2] where the mask is empty.

    n is 3 or more elsewhere. The mask is where weights [M] times prototypes [M, h, w], made `size` x `size`, is above 0
    inside the box `corners`.
    """
    gain = size / prototypes.shape[1]
    # Pixels whose index lies inside the box, as Ultralytics cuts a mask.
    left, top, right, bottom = (int(n) for n in np.clip(np.ceil(np.nan_to_num(corners)), 0, size))
    if left >= right or top >= bottom:
        return np.empty((0, 2), np.float32)
    # Only the cells that the box needs, and one around them, which the interpolation at its border looks at.
    x1, y1 = (max(0, int(n / gain) - 1) for n in (left, top))
    x2, y2 = (int(n / gain) + 2 for n in (right, bottom))
    cells = np.tensordot(weights, prototypes[:, y1:y2, x1:x2], 1)
    wide = (round(cells.shape[1] * gain), round(cells.shape[0] * gain))
    values = cv2.resize(cells, wide, interpolation=cv2.INTER_LINEAR)
    x0, y0 = round(x1 * gain), round(y1 * gain)
    mask = np.asarray(values[top - y0 : bottom - y0, left - x0 : right - x0] > 0, np.uint8)
    # OpenCV goes through the middles of the outermost pixels: in a mask twice as large, nearer to their edges.
    fine = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    rings = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not rings:
        return np.empty((0, 2), np.float32)
    largest = max(rings, key=cv2.contourArea)
    ring = cv2.approxPolyDP(largest, 2 * OUTLINE_TOLERANCE, closed=True)
    if len(ring) < 3:
        # Of a mask a pixel wide only a line is left. Of one pixel the twice as large mask has 4 corners.
        ring = largest
    return np.asarray((ring.reshape(-1, 2) + 0.5) / 2 + np.array([left, top]), np.float32)


def xywhr_to_corners(boxes: Floats) -> Floats:
    """Return the corners [n, 4, 2] of turned boxes [n, 5] (centre x, y, width, height, angle in radians), in a ring."""
    centre, sides, angle = boxes[:, None, :2], boxes[:, 2:4] / 2, boxes[:, 4]
    across = sides[:, :1] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    down = sides[:, 1:] * np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    ring = np.stack([across + down, across - down, -across - down, down - across], axis=1)
    return np.asarray(centre + ring, np.float32)


def _non_max_suppression(detections: Floats, iou: float) -> NDArray[np.intp]:
    """Indices of rows to keep, of rows sorted by falling confidence: the best of each heap, class by class."""
    low = np.maximum(detections[:, None, :2], detections[None, :, :2])
    high = np.minimum(detections[:, None, 2:4], detections[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = np.clip(detections[:, 2:4] - detections[:, :2], 0, None).prod(axis=1)
    beats = (shared > iou * (areas[:, None] + areas[None, :] - shared)) & (
        detections[:, None, 5] == detections[None, :, 5]
    )
    keep = np.ones(len(detections), bool)
    for index in range(len(detections)):
        if keep[index]:
            keep[index + 1 :] &= ~beats[index, index + 1 :]
    return np.flatnonzero(keep)


def _label(model: ServedModel, number: int) -> str:
    return model.class_names[number] if 0 <= number < len(model.class_names) else f"class {number}"


def _rounded(values: Floats, digits: int) -> Any:  # noqa: ANN401  # nested lists as deep as the array
    return np.round(
        np.clip(np.nan_to_num(np.asarray(values, np.float64)), -COORDINATE_LIMIT, COORDINATE_LIMIT), digits
    ).tolist()

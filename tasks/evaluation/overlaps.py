"""How much the labels and the detections of one image overlap, from 0 to 1, in the way of their task."""

from dataclasses import dataclass, replace

import numpy as np
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from tasks.vision.detections import Detections, pack_masks
from tasks.vision.geometry import Doubles, Floats, Letterbox, rotated_iou_matrix

# COCO's, for the 17 points of a person. Of other skeletons each point counts the same, as in Ultralytics.
PERSON_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
_SQUARE = 1024  # pixels, of labels that no mask is compared with
_OUTLINED = 0.1  # the confidence from which masks get an outline: others are not drawn
_FILLED = 0.53  # of its box, where an object's outline is unknown: Ultralytics' number


@dataclass(frozen=True, eq=False, kw_only=True)
class ComparedImage:
    """The m labels and the n detections of an image, best first, both without masks.

    `overlaps` [n, m] are of boxes, of masks (segment), of rotated boxes (obb), or the similarity of keypoints (pose).
    `label_areas` [m] and `areas` [n] are in pixels of the image. `ignored` [m] are labels of pose without a visible
    point: a detection of one is neither right nor wrong.
    """

    labels: Detections
    predictions: Detections
    overlaps: Doubles
    label_areas: Doubles
    areas: Doubles
    ignored: NDArray[np.bool_]


def compare_image(labels: Detections, predictions: Detections, task: str) -> ComparedImage:
    """Return the labels of an image beside what a model found there, and their overlaps.

    Labels have `polygons` for segment, `xywhr` for obb and `keypoints` for pose; predictions are `best_first`.
    """
    ignored: NDArray[np.bool_] = np.zeros(len(labels), np.bool_)
    label_areas, areas = _areas(labels.xyxy), _areas(predictions.xyxy)
    if task == "segment":
        overlaps, label_areas, areas = _compare_masks(labels, predictions)
    elif labels.xywhr is not None and predictions.xywhr is not None:
        overlaps = rotated_iou_matrix(predictions.xywhr, labels.xywhr)
        label_areas, areas = (_doubles(each[:, 2] * each[:, 3]) for each in (labels.xywhr, predictions.xywhr))
    elif labels.keypoints is not None and predictions.keypoints is not None:
        ignored = np.asarray(~(labels.keypoints[..., 2] > 0).any(axis=1), np.bool_)
        label_areas = label_areas * _FILLED
        areas = _doubles(np.ptp(predictions.keypoints[..., :2], axis=1)).prod(axis=1)  # COCO's measure of a detection
        overlaps = keypoint_similarity(predictions.keypoints, labels, label_areas)
    else:
        overlaps = _box_iou(predictions.xyxy, labels.xyxy)
    return ComparedImage(
        labels=replace(labels, mask=None),
        predictions=replace(_outline(predictions), mask=None),
        overlaps=overlaps,
        label_areas=label_areas,
        areas=areas,
        ignored=ignored,
    )


def best_first(predictions: Detections) -> Detections:
    """Return the detections in falling order, of those with masks no other; of classify the best class."""
    if predictions.class_scores is not None:
        top = predictions.class_scores.max()
        thresholds = np.full(len(predictions.class_scores), top, np.float32)
        whole = predictions.from_class_scores(
            predictions.class_scores, thresholds, predictions.width, predictions.height
        )
        return whole.select(np.arange(min(1, len(whole))))
    if predictions.mask is not None:  # Ultralytics gives them in this order, and masks cannot be put into another
        return predictions.select(np.arange(min(len(predictions), len(predictions.mask))))
    return predictions.select(np.argsort(-predictions.confidence, kind="stable"))


def keypoint_similarity(points: Floats, labels: Detections, areas: Doubles) -> Doubles:
    """Return COCO's object keypoint similarity [n, m] of points [n, K, 3] with labels of `areas` [m] in pixels.

    Of a label without a visible point it says how near the points lie to its box, made twice as large on each side.
    """
    truth = np.asarray(labels.keypoints, np.float64)
    count = truth.shape[1]
    variances = (2 * keypoint_sigmas(count)) ** 2
    overlaps = np.zeros((len(points), len(truth)))
    for column, own in enumerate(truth):
        seen = own[:, 2] > 0
        offsets = np.abs(_doubles(points)[..., :2] - own[:, :2])
        if not seen.any():
            low, high = _doubles(labels.xyxy[column, :2]), _doubles(labels.xyxy[column, 2:])
            offsets = np.clip(low - (high - low) - points[..., :2], 0, None)
            offsets += np.clip(points[..., :2] - high - (high - low), 0, None)
            seen = np.ones(count, np.bool_)
        distances = (offsets**2).sum(axis=2) / variances / (areas[column] + np.spacing(1)) / 2
        overlaps[:, column] = np.exp(-distances[:, seen]).mean(axis=1)
    return overlaps


def keypoint_sigmas(count: int) -> Doubles:
    """Return how far off each of `count` keypoints may lie, as a share of the object's size."""
    return PERSON_SIGMAS if count == len(PERSON_SIGMAS) else np.full(count, 1 / count)


def _compare_masks(labels: Detections, predictions: Detections) -> tuple[Doubles, Doubles, Doubles]:
    """The overlaps and areas in the letterboxed square of the model, in which its masks are; areas of image pixels."""
    if predictions.mask is None:
        square = min(max(labels.width, labels.height), _SQUARE)
        found = np.zeros((len(predictions), square, -(-square // 8)), np.uint8)
    else:
        square = predictions.mask.shape[1]
        found = predictions.mask
    letterbox = Letterbox.fit(labels.width, labels.height, square)
    pixel = labels.width * labels.height / (letterbox.inner_width * letterbox.inner_height)
    overlaps = np.zeros((len(predictions), len(labels)))
    label_areas = np.zeros(len(labels))
    areas = _count_pixels(found)
    for column, ring in enumerate(labels.polygons or ()):
        true = _fill(letterbox.points_to_square(ring), square)
        label_areas[column] = _count_pixels(true)[0]
        rows = np.flatnonzero(true[0].any(axis=1))  # most labels are small, and there are up to 300 masks
        shared = _count_pixels(found[:, rows] & true[:, rows])
        overlaps[:, column] = shared / np.maximum(areas + label_areas[column] - shared, 1)
    return overlaps, label_areas * pixel, areas * pixel


def _outline(predictions: Detections) -> Detections:
    """The same with the polygons of rotated boxes, and of the masks that may be drawn."""
    if predictions.mask is None:
        return predictions.with_polygons()
    drawn = predictions.select(predictions.confidence >= _OUTLINED).with_polygons().polygons or ()
    rest = len(predictions) - len(drawn)
    return replace(predictions, polygons=(*drawn, *([np.empty((0, 2), np.float32)] * rest)))


def _fill(ring: Floats, square: int) -> NDArray[np.uint8]:
    """The bits [1, S, S/8] of an outline [k, 2], filled as COCO does it."""
    (runs,) = coco_mask.frPyObjects([ring.astype(float).ravel().tolist()], square, square)
    return pack_masks(np.asarray(coco_mask.decode(runs), np.bool_).reshape(1, square, square))


def _count_pixels(bits: NDArray[np.uint8]) -> Doubles:
    return _doubles(np.bitwise_count(bits).sum(axis=(1, 2)))


def _box_iou(boxes: Floats, others: Floats) -> Doubles:
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return _doubles(coco_mask.iou(_xywh(boxes), _xywh(others), [0] * len(others)))


def _xywh(boxes: Floats) -> Doubles:
    return np.concatenate([_doubles(boxes[:, :2]), _doubles(boxes[:, 2:]) - _doubles(boxes[:, :2])], axis=1)


def _areas(boxes: Floats) -> Doubles:
    return np.asarray(_xywh(boxes)[:, 2:].prod(axis=1), np.float64)


def _doubles(array: object) -> Doubles:
    return np.asarray(array, np.float64)

"""What others make of the tiles of a picture: SAHI and supervision's InferenceSlicer, and the rules alone by which
they merge.

SAHI is none of our dependencies: where it is missing, `SAHI_MISSING` says how to have it.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from numpy.typing import NDArray
from supervision.detection.utils.iou_and_nms import OverlapMetric

from tasks.inference.tiling import Tile
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb

HAS_SAHI = find_spec("sahi") is not None
SAHI_MISSING = (
    "SAHI is left out. To have it beside: uv pip install --target DIR --no-deps sahi==0.12.8 fire shapely termcolor, "
    "and PYTHONPATH=DIR"
)
BATCH = 8

Detect = Callable[[Rgb], Detections]
Merge = Callable[[Sequence[tuple[Tile, Detections]], Detections | None], Detections]


def merges() -> dict[str, Merge]:
    """Their rules, by name; each takes what `merge_tile_detections` takes, without the IoU."""
    rules = {
        f"supervision {name.upper()} {metric}": _supervision_merge(name, metric)
        for name, metric in (("nms", "IOU"), ("nms", "IOS"), ("nmm", "IOU"), ("nmm", "IOS"))
    }
    if HAS_SAHI:
        kinds = (("GreedyNMM", "IOS"), ("GreedyNMM", "IOU"), ("NMM", "IOS"), ("NMS", "IOS"), ("NMS", "IOU"))
        rules = {f"SAHI {kind} {metric}": _sahi_merge(kind, metric) for kind, metric in kinds} | rules
    return rules


def sahi(weights: Path, size: int, confidence: float, batch: int) -> Detect:
    """SAHI with its defaults and its wrapper of Ultralytics, on the CPU."""
    from sahi import AutoDetectionModel  # type: ignore[import-not-found]
    from sahi.predict import get_sliced_prediction  # type: ignore[import-not-found]

    model = AutoDetectionModel.from_pretrained(
        "ultralytics", str(weights), confidence_threshold=confidence, device="cpu", image_size=size, task="detect"
    )

    def detect(image: Rgb) -> Detections:
        found = get_sliced_prediction(
            image, model, slice_height=size, slice_width=size, verbose=0, batch_size=batch
        ).object_prediction_list
        return _from_sahi(found, image.shape[1], image.shape[0])

    return detect


def inference_slicer(weights: Path, size: int, confidence: float, merge: str, metric: str) -> Detect:
    """supervision's slicer over Ultralytics, in batches; it looks at no whole picture."""
    model = load_model(str(weights), "detect")

    def callback(tiles: list[NDArray[Any]]) -> list[sv.Detections]:
        flipped = [np.ascontiguousarray(tile[..., ::-1]) for tile in tiles]
        results = model.predict(flipped, imgsz=size, conf=confidence, device="cpu", verbose=False)
        return [sv.Detections.from_ultralytics(each) for each in results]

    slicer = sv.InferenceSlicer(
        callback, size, round(0.2 * size), overlap_filter=merge, overlap_metric=metric, batch_size=BATCH
    )

    def detect(image: Rgb) -> Detections:
        return _from_supervision(slicer(image), image.shape[1], image.shape[0])

    return detect


def best_first(width: int, height: int, xyxy: object, confidence: object, class_id: object) -> Detections:
    """Return detections in falling order, of columns in any type; none where they are empty."""
    scores = np.reshape(np.asarray(confidence, np.float32), -1)
    order = np.argsort(-scores, kind="stable")
    return Detections(
        width=width,
        height=height,
        xyxy=np.reshape(np.asarray(xyxy, np.float32), (-1, 4))[order],
        confidence=scores[order],
        class_id=np.reshape(np.asarray(class_id), -1).astype(np.int32)[order],
    )


def _sahi_merge(kind: str, metric: str) -> Merge:
    from sahi.postprocess import combine  # type: ignore[import-not-found]
    from sahi.prediction import ObjectPrediction  # type: ignore[import-not-found]

    postprocess = getattr(combine, f"{kind}Postprocess")(match_threshold=0.5, match_metric=metric, class_agnostic=False)

    def merge(parts: Sequence[tuple[Tile, Detections]], whole: Detections | None) -> Detections:
        boxes, scores, classes, (width, height) = _all(parts, whole)
        found = [
            ObjectPrediction(box, class_id, category_name=str(class_id), score=score, full_shape=[height, width])
            for box, class_id, score in zip(boxes.tolist(), classes.tolist(), scores.tolist(), strict=True)
        ]
        return _from_sahi(postprocess(found) if len(found) > 1 else found, width, height)

    return merge


def _supervision_merge(name: str, metric: str) -> Merge:
    def merge(parts: Sequence[tuple[Tile, Detections]], whole: Detections | None) -> Detections:
        boxes, scores, classes, (width, height) = _all(parts, whole)
        found = sv.Detections(xyxy=boxes, confidence=scores, class_id=classes)
        merged = getattr(found, f"with_{name}")(threshold=0.5, overlap_metric=OverlapMetric[metric])
        return _from_supervision(merged, width, height)

    return merge


def _all(
    parts: Sequence[tuple[Tile, Detections]], whole: Detections | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[int, int]]:
    """Boxes [n,4] in pixels of the picture, confidences and classes [n], and width and height of the picture."""
    width, height = max(tile.right for tile, _ in parts), max(tile.bottom for tile, _ in parts)
    views = [*parts, *([(Tile(0, 0, width, height), whole)] if whole else [])]
    boxes = np.concatenate([each.xyxy + np.array([tile.left, tile.top] * 2, np.float32) for tile, each in views])
    scores = np.concatenate([each.confidence for _, each in views])
    return boxes, scores, np.concatenate([each.class_id for _, each in views]), (width, height)


def _from_sahi(found: Sequence[Any], width: int, height: int) -> Detections:
    return best_first(
        width,
        height,
        [each.bbox.to_xyxy() for each in found],
        [each.score.value for each in found],
        [each.category.id for each in found],
    )


def _from_supervision(found: sv.Detections, width: int, height: int) -> Detections:
    return best_first(width, height, found.xyxy, found.confidence, found.class_id)

"""Detections of every task, made up."""

from typing import Any

import numpy as np

from tasks.inference.results.summary import GalleryItem, item_classes
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections
from tasks.vision.geometry import xywhr_to_corners

MODEL = ServedModel(name="cells", version=7, task="detect", image_size=64, class_names=("red", "white"), run_id="run")


def model(task: str = "detect", version: int = 7, names: tuple[str, ...] = ("red", "white")) -> ServedModel:
    return ServedModel(name="cells", version=version, task=task, image_size=64, class_names=names, run_id="run")


def picture(*classes: int, source: str = "a.jpg", frame: int | None = None, task: str = "detect") -> Detections:
    """A picture of 128 x 64 pixels with a detection a class: box (10 + i, 20, 40 + i, 60), confidence 0.9 - 0.01 i."""
    count = len(classes)
    steps = np.arange(count, dtype=np.float32)
    boxes = np.stack([10 + steps, 20 + 0 * steps, 40 + steps, 60 + 0 * steps], axis=1).astype(np.float32)
    rotated = np.stack([25 + steps, 40 + 0 * steps, 20 + 0 * steps, 10 + 0 * steps, 0.5 + 0 * steps], axis=1)
    own: dict[str, Any] = {}
    if task == "segment":
        own["polygons"] = tuple(np.array([[x, 20], [x + 30, 20], [x, 60]], np.float32) for x in boxes[:, 0])
    if task == "pose":
        own["keypoints"] = np.tile(np.array([[11, 22, 0.9], [33, 44, 0.2]], np.float32), (count, 1, 1))
    if task == "obb":
        own |= {"xywhr": rotated.astype(np.float32), "polygons": tuple(xywhr_to_corners(rotated.astype(np.float32)))}
    moment = None if frame is None else 40.0 * frame
    confidence = (0.9 - 0.01 * steps).astype(np.float32)
    return Detections(
        width=128,
        height=64,
        xyxy=boxes,
        confidence=confidence,
        class_id=np.array(classes, np.int32),
        source=source,
        frame=frame,
        timestamp_ms=moment,
        **own,
    )


def item(*pictures: Detections) -> GalleryItem:
    """The place in the gallery of one image, or of one video."""
    first = pictures[0]

    return GalleryItem(
        source=first.source,
        kind="image" if first.frame is None else "video",
        sheet="thumbnails/000000-0.jpg",
        cell=3,
        annotated=None,
        width=first.width,
        height=first.height,
        frames=len(pictures),
        classes=item_classes(pictures),
    )

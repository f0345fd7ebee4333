"""Labels and detections in drawn-up images, by a seed."""

from typing import Any

import numpy as np

from tasks.vision.detections import Detections, pack_masks

SIDE = 320
Rng = np.random.Generator


def detections(boxes: Any, classes: Any, confidence: Any = None, side: int = SIDE, **fields: Any) -> Detections:
    """Detections in a square image; labels without a confidence."""
    xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.ones(len(xyxy)) if confidence is None else confidence
    return Detections(
        width=side,
        height=side,
        xyxy=xyxy,
        confidence=np.asarray(scores, np.float32),
        class_id=np.asarray(classes, np.int32),
        **fields,
    )


def draw_pair(rng: Rng, task: str, classes: int = 3, below: int = 7) -> tuple[Detections, Detections]:
    """Fewer labels than `below`, and a model's detections near some of them, with some wrong classes."""
    count = int(rng.integers(0, below))
    low = rng.uniform(0, SIDE * 0.5, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(6, SIDE * 0.49, (count, 2))], axis=1)
    names = rng.integers(0, classes, count)
    again = np.sort(rng.integers(0, count, int(rng.integers(0, below + 2)))) if count else np.zeros(0, int)
    found = np.clip(boxes[again] + rng.normal(0, 5, (len(again), 4)), 0, SIDE)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
    guessed = np.where(rng.random(len(again)) < 0.2, rng.integers(0, classes, len(again)), names[again])
    scores = -np.sort(-rng.random(len(again)))
    truth: dict[str, Any] = {}
    prediction: dict[str, Any] = {}
    if task == "segment":
        truth["polygons"] = tuple(_ring(box) for box in boxes)
        prediction["mask"] = pack_masks(np.array([_mask(box) for box in found]).reshape(-1, SIDE, SIDE))
    if task == "pose":
        points = rng.uniform(boxes[:, None, :2], boxes[:, None, 2:], (count, 17, 2))
        seen = rng.integers(0, 3, (count, 17, 1)) * (rng.random((count, 1, 1)) > 0.2)
        truth["keypoints"] = np.concatenate([points, seen], axis=2).astype(np.float32)
        moved = points[again] + rng.normal(0, 3, (len(again), 17, 2))
        prediction["keypoints"] = np.concatenate([moved, np.ones((len(again), 17, 1))], axis=2).astype(np.float32)
    return detections(boxes, names, **truth), detections(found, guessed, scores, **prediction)


def _ring(box: Any) -> Any:
    x1, y1, x2, y2 = box
    return np.array([[x1, y1], [x2, y1], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y2], [x1, y2]], np.float32)


def _mask(box: Any) -> Any:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    x1, y1, x2, y2 = box
    return (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)

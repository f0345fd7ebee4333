"""What two sides found in images that never were."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.dataset.validation_sample import GroundTruth, SampleImage, ValidationSample
from tasks.vision.detections import Detections
from tasks.vision.geometry import Letterbox, Rgb
from tasks.vision.metrics import Scores

NAMES = ("cat", "dog", "owl")
WIDTH, HEIGHT = 100, 80


def found(*rows: Sequence[float], **more: object) -> Detections:
    """Rows of x1, y1, x2, y2, confidence, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    arrays = {name: np.asarray(values, np.float32) for name, values in more.items()}
    masks: dict[str, Any] = {"mask": np.asarray(more["mask"], np.uint8)} if "mask" in more else {}
    return Detections(
        width=WIDTH,
        height=HEIGHT,
        xyxy=table[:, :4],
        confidence=table[:, 4],
        class_id=table[:, 5].astype(np.int32),
        **arrays | masks,
    )


def grid(count: int, score: float = 0.9) -> list[list[float]]:
    """So many boxes that do not overlap, of all classes in turn."""
    places = [(10 * (number % 10), 10 * (number // 10)) for number in range(count)]
    return [[x, y, x + 9, y + 9, score, number % len(NAMES)] for number, (x, y) in enumerate(places)]


def sample(images: int, task: str = "detect") -> ValidationSample:
    truth = GroundTruth(np.zeros(0, np.int32), np.zeros((0, 4, 2), np.float32))
    return ValidationSample(
        task=task,
        class_names=NAMES,
        images=tuple(SampleImage(name=f"{at}.jpg", path=Path(f"{at}.jpg"), truth=truth) for at in range(images)),
    )


def scores(value: float | None = 0.5, task: str = "detect") -> Scores:
    """Every class has the same."""
    metric = "accuracy_top1" if task == "classify" else "mAP50-95"
    values = {} if value is None else {metric: value}
    return Scores(task=task, metrics=values, classes={name: values for name in NAMES if values}, images=1)


def stretched_letterbox(image: Rgb, size: int) -> Letterbox:
    """How a client that forgets the letterbox resizes an image."""
    height, width = image.shape[:2]
    sides = {"width": width, "height": height, "inner_width": size, "inner_height": size}
    return Letterbox(size=size, left=0, top=0, **sides)

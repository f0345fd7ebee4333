"""COCO's metrics for every task with boxes: by faster-coco-eval, of overlaps that are known."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from tasks.evaluation.metrics import COCO_METRICS, ClassMetrics, Metrics
from tasks.evaluation.overlaps import ComparedImage

_MAX_DETECTIONS = 100  # of a class in an image
_RANGES = {"small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 10**10]}  # areas in pixels of the image


def coco_metrics(images: Sequence[ComparedImage], class_count: int, task: str) -> ClassMetrics:
    """Return the metrics of what a model found in these images."""
    truth, found = _describe(images, class_count)
    evaluator = _Evaluator(truth, found, images, "keypoints" if task == "pose" else "bbox")
    labels = Counter(each["category_id"] for each in truth.anns.values() if each["num_keypoints"])
    return ClassMetrics(
        overall=evaluator.metrics(range(class_count), labels.total()),
        by_class={number: evaluator.metrics([number], labels[number]) for number in sorted(labels)},
    )


class _Evaluator(COCOeval_faster):  # type: ignore[misc] # the library has no types
    """Takes our overlaps, and has faster-coco-eval do the rest."""

    def __init__(self, truth: COCO, found: COCO, images: Sequence[ComparedImage], kind: str) -> None:
        super().__init__(truth, found, kind, print_function=lambda *_: None, ranges=_RANGES)
        self._images = images
        self.params.maxDets = [_MAX_DETECTIONS]
        self.params.catIds = sorted(truth.cats)
        self.evaluate()
        self.accumulate()

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: ANN401, N802, N803 - what the library calls it
        image = self._images[imgId]
        rows, columns = (np.flatnonzero(each.class_id == catId) for each in (image.predictions, image.labels))
        rows = rows[:_MAX_DETECTIONS]
        return np.ascontiguousarray(image.overlaps[np.ix_(rows, columns)]) if len(rows) and len(columns) else []

    computeOks = computeIoU  # noqa: N815

    def metrics(self, classes: Iterable[int], labels: int) -> Metrics:
        precision = self.eval["precision"][..., 0][:, :, list(classes)]
        recall = self.eval["recall"][..., 0][:, list(classes)]
        sizes = self.params.areaRngLbl[1:]  # the first is all
        at_0_50, at_0_75 = 0, 5
        of_sizes = (precision[..., at] for at, _ in enumerate(sizes, 1))
        values = [precision[..., 0], precision[at_0_50, ..., 0], precision[at_0_75, ..., 0], recall[..., 0], *of_sizes]
        names = [*COCO_METRICS[:4], *(f"{COCO_METRICS[0]} {size}" for size in sizes)]
        return Metrics(labels=labels, values=dict(zip(names, map(_mean, values), strict=True)))


def _describe(images: Sequence[ComparedImage], class_count: int) -> tuple[COCO, COCO]:
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        visible = {"num_keypoints": (~image.ignored).astype(int)}
        truth += _annotations(number, len(truth), image.labels.class_id, image.label_areas, visible)
        scores = {"score": image.predictions.confidence}
        found += _annotations(number, len(found), image.predictions.class_id, image.areas, scores)
    shared = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": number} for number in range(class_count)],
    }
    return COCO({**shared, "annotations": truth}), COCO({**shared, "annotations": found})


def _annotations(
    image: int, before: int, classes: NDArray[Any], areas: NDArray[Any], own: Mapping[str, NDArray[Any]]
) -> list[dict[str, Any]]:
    # An id of 0 means no partner to COCO.
    columns = {"category_id": classes.tolist(), "area": areas.tolist()} | {key: own[key].tolist() for key in own}
    rows = zip(*columns.values(), strict=True)
    return [
        {"id": before + at, "image_id": image, "iscrowd": 0, **dict(zip(columns, row, strict=True))}
        for at, row in enumerate(rows, 1)
    ]


def _mean(values: NDArray[Any]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None

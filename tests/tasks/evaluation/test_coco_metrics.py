"""COCO's metrics are those of pycocotools, the reference."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tasks.evaluation.coco_metrics import coco_metrics
from tasks.evaluation.overlaps import best_first, compare_image
from tasks.vision.detections import Detections
from tests.tasks.evaluation.pictures import SIDE, draw_pair

CLASSES = 3
KINDS = {"detect": "bbox", "segment": "segm", "pose": "keypoints"}


@pytest.mark.parametrize("task", KINDS)
def test_metrics_equal_those_of_pycocotools(task: str) -> None:
    rng = np.random.default_rng(3)
    pairs = [draw_pair(rng, task, CLASSES) for _ in range(60)]
    pairs.append(draw_pair(rng, task, CLASSES, 360))
    crowd = np.bincount(pairs[-1][1].class_id)
    assert crowd.min() < 100 < crowd.max()  # COCO counts the 100 best of each class
    images = [compare_image(labels, best_first(found), task) for labels, found in pairs]
    metrics = coco_metrics(images, CLASSES, task)
    reference = reference_metrics(pairs, task)
    assert list(metrics.overall.values.values()) == pytest.approx(reference, abs=1e-6)
    assert 0.1 < reference[0] < 0.9
    assert list(metrics.over(range(CLASSES)).overall.values.values()) == pytest.approx(reference, abs=1e-6)


def reference_metrics(pairs: Sequence[tuple[Detections, Detections]], task: str) -> list[float]:
    """AP, AP50, AP75, AR and AP by size by pycocotools, from annotations as its users write them."""
    shared = {
        "images": [{"id": number, "width": SIDE, "height": SIDE} for number in range(len(pairs))],
        "categories": [{"id": number, "name": str(number)} for number in range(CLASSES)],
    }
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (labels, predictions) in enumerate(pairs):
        for row in range(len(labels)):
            truth.append(annotation(labels, row, number) | {"id": len(truth) + 1, "iscrowd": 0})
        found += [
            result(predictions, row, number) | {"score": float(predictions.confidence[row])}
            for row in range(len(predictions))
        ]
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {**shared, "annotations": truth}
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(found), KINDS[task])
        evaluator.params.maxDets = [100] if task == "pose" else [1, 10, 100]
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][..., -1], evaluator.eval["recall"][..., 0, -1]
    areas = range(1, len(evaluator.params.areaRngLbl))
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], recall]
    parts += [precision[..., at] for at in areas]
    return [float(part[part > -1].mean()) for part in parts]


def result(detections: Detections, row: int, image: int) -> dict[str, Any]:
    """A detection as it is submitted: keypoints without a box, which pycocotools would take for its area."""
    own = annotation(detections, row, image)
    return {key: value for key, value in own.items() if key != "bbox" or "keypoints" not in own}


def annotation(detections: Detections, row: int, image: int) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, detections.xyxy[row])
    box = [x1, y1, x2 - x1, y2 - y1]
    own: dict[str, Any] = {"bbox": box, "area": box[2] * box[3]}
    if detections.polygons is not None:
        polygon = detections.polygons[row].astype(float).ravel().tolist()
        (runs,) = mask_tools.frPyObjects([polygon], SIDE, SIDE)
        own = {"segmentation": [polygon], "area": float(mask_tools.area(runs))}
    if (mask := detections.unpack_mask(row)) is not None:
        own = {"segmentation": mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))}
    if detections.keypoints is not None:
        points = detections.keypoints[row].astype(float)
        own |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
        own["area"] *= 0.53
    return {"image_id": image, "category_id": int(detections.class_id[row]), **own}

"""Scores of detections, of the weights or of the served model, by Ultralytics' own matching and curves."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ap_per_class, batch_probiou, box_iou

from tasks.dataset.validation_sample import GroundTruth, ValidationSample
from tasks.vision.detections import Detections
from tasks.vision.metrics import Scores

_MATCHER: Any = SimpleNamespace(iouv=torch.linspace(0.5, 0.95, 10))

MetricsByClass = Mapping[int, dict[str, float]]


def evaluate_predictions(predictions: Sequence[Detections], sample: ValidationSample) -> Scores:
    """Return the scores of the detections in each image of the sample, in its order.

    `mAP50` and `mAP50-95` are of boxes, for obb of rotated ones; a classifier gets `accuracy_top1`. A sample without
    labels has no metrics.
    """
    pairs = list(zip(predictions, [image.truth for image in sample.images], strict=True))
    metrics, classes = _accuracies(pairs) if sample.task == "classify" else _average_precisions(pairs)
    named = {sample.class_names[number]: values for number, values in classes.items()}
    return Scores(task=sample.task, metrics=metrics, classes=named, images=len(pairs))


def _accuracies(pairs: Sequence[tuple[Detections, GroundTruth]]) -> tuple[dict[str, float], MetricsByClass]:
    true = np.array([truth.class_id[0] for _, truth in pairs])
    right = true == np.array(
        [detections.class_scores.argmax() for detections, _ in pairs if detections.class_scores is not None]
    )
    each = {int(number): {"accuracy_top1": float(right[true == number].mean())} for number in np.unique(true)}
    return {"accuracy_top1": float(right.mean())}, each


def _average_precisions(pairs: Sequence[tuple[Detections, GroundTruth]]) -> tuple[dict[str, float], MetricsByClass]:
    correct = np.concatenate([_correct(detections, truth) for detections, truth in pairs])
    confidence = np.concatenate([detections.confidence for detections, _ in pairs])
    classes = np.concatenate([detections.class_id for detections, _ in pairs])
    true = np.concatenate([truth.class_id for _, truth in pairs])
    if not len(true):
        return {}, {}
    precisions, numbers = ap_per_class(correct, confidence, classes, true)[5:7]
    each = {
        int(number): {"mAP50": float(row[0]), "mAP50-95": float(row.mean())}
        for number, row in zip(numbers, precisions, strict=True)
    }
    return {name: float(np.mean([values[name] for values in each.values()])) for name in ("mAP50", "mAP50-95")}, each


def _correct(detections: Detections, truth: GroundTruth) -> NDArray[np.bool_]:
    """Whether each of n detections is right at each of ten thresholds: [n, 10]."""
    if not len(detections) or not len(truth.class_id):
        return np.zeros((len(detections), 10), np.bool_)
    size = detections.width, detections.height
    if detections.xywhr is not None:
        overlaps = batch_probiou(torch.from_numpy(truth.rotated(*size)), torch.from_numpy(detections.xywhr))
    else:
        overlaps = box_iou(torch.from_numpy(truth.boxes(*size)), torch.from_numpy(detections.xyxy))
    classes = torch.from_numpy(detections.class_id), torch.from_numpy(truth.class_id)
    matched: NDArray[np.bool_] = BaseValidator.match_predictions(_MATCHER, *classes, overlaps).numpy()
    return matched

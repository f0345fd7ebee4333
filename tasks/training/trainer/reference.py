"""Detections of weights in images, by Ultralytics' own predict."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.dataset.validation_sample import ValidationSample, unpack_sample
from tasks.evaluation.prediction_file import write_predictions
from tasks.serving.pre_postprocess import has_visible_area
from tasks.serving.served_model import NMS_CONFIDENCE, NMS_IOU
from tasks.serving.task_outputs import MAX_DETECTIONS
from tasks.training.job import PredictedChunk, PredictionJob, ReferencePredictionJob
from tasks.training.trainer.prediction_metrics import evaluate_predictions
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.detections import Detections, pack_masks
from tasks.vision.geometry import clip_boxes, enclosing_boxes
from tasks.vision.metrics import Scores
from tasks.vision.predictions import MAX_STORED_MASKS, PredictionStore

# As the served graph does: its confidence and NMS are those of Ultralytics' validation.
_LIKE_SERVED = {"conf": NMS_CONFIDENCE, "iou": NMS_IOU, "max_det": MAX_DETECTIONS, "rect": False}
_QUIET = {"verbose": False, "save": False}


def predict_and_score(job: ReferencePredictionJob) -> Iterator[Scores]:
    """Write the detections of the weights; then yield their scores and those of the served model."""
    sample = unpack_sample(job.sample, job.task, job.folder / "images")
    reference = PredictionStore(job.reference)
    _predict(job, sample, reference)
    for predictions in (reference, PredictionStore(job.served)):
        yield evaluate_predictions(predictions, sample)


def predict_chunks(job: PredictionJob) -> Iterator[PredictedChunk]:
    """Write the detections in each chunk of images that is not written yet; yield each when it is."""
    missing = [number for number, path in enumerate(job.predictions) if not path.exists()]
    if not missing:
        return
    predict = _predictor(job, MAX_DETECTIONS)
    for number in missing:
        write_predictions(job.predictions[number], map(predict, job.chunks[number]))
        yield PredictedChunk(number=number, images=len(job.chunks[number]))


def _predict(job: ReferencePredictionJob, sample: ValidationSample, folder: PredictionStore) -> None:
    predict = _predictor(job, MAX_STORED_MASKS)
    for image in sample.images:
        folder.add(predict(image.path))


def _predictor(job: ReferencePredictionJob | PredictionJob, masks: int) -> Callable[[Path], Detections]:
    model = load_model(str(job.weights), job.task)
    options = {"imgsz": job.image_size, "device": job.device, "project": str(job.folder)}

    def predict(image: Path) -> Detections:
        (result,) = model.predict(str(image), **_LIKE_SERVED, **_QUIET, **options)
        detections = to_detections(result.cpu().numpy(), masks)
        return detections if job.task == "classify" else detections.select(has_visible_area(detections))

    return predict


def to_detections(result: Any, masks: int) -> Detections:  # noqa: ANN401 - ultralytics ships no types
    """Return one result of predict, given as arrays on the CPU, with the masks of the `masks` best detections."""
    height, width = result.orig_shape
    if result.probs is not None:
        return Detections.empty(width, height, class_scores=np.asarray(result.probs.data, np.float32))
    boxes = result.boxes if result.obb is None else result.obb
    xyxy = boxes.xyxy
    fields: dict[str, Any] = {}
    if result.obb is not None:
        fields["xywhr"] = np.asarray(result.obb.xywhr, np.float32)
        xyxy = clip_boxes(enclosing_boxes(fields["xywhr"]), width, height)
    if result.keypoints is not None:
        points = np.asarray(result.keypoints.data, np.float32)
        visible = np.ones((*points.shape[:2], 3 - points.shape[2]), np.float32)
        fields["keypoints"] = np.concatenate([points, visible], axis=2)
    if masks and result.masks is not None:
        fields["mask"] = pack_masks(result.masks.data[:masks])
    return Detections(
        width=width,
        height=height,
        xyxy=np.asarray(xyxy, np.float32),
        confidence=np.asarray(boxes.conf, np.float32),
        class_id=np.asarray(boxes.cls, np.int32),
        **fields,
    )

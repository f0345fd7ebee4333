"""Detections of weights in images, by Ultralytics' own predict."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tasks.dataset.validation_sample import ValidationSample, unpack_sample
from tasks.evaluation.prediction_file import write_embeddings, write_predictions
from tasks.media.images import read_image
from tasks.serving.pre_postprocess import has_visible_area
from tasks.serving.served_model import NMS_CONFIDENCE, NMS_IOU
from tasks.serving.task_outputs import MAX_DETECTIONS
from tasks.training.job import PredictedChunk, PredictionJob, ReferencePredictionJob
from tasks.training.trainer.head_inputs import HeadInputs
from tasks.training.trainer.prediction_metrics import evaluate_predictions
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.detections import Detections, pack_masks
from tasks.vision.geometry import Floats, clip_boxes, enclosing_boxes
from tasks.vision.metrics import Scores
from tasks.vision.predictions import MAX_STORED_MASKS, PredictionStore
from tasks.vision.views import View, render_view, restore_boxes

# As the served graph does: its confidence and NMS are those of Ultralytics' validation.
_LIKE_SERVED = {"conf": NMS_CONFIDENCE, "iou": NMS_IOU, "max_det": MAX_DETECTIONS, "rect": False}
_QUIET = {"verbose": False, "save": False}
_Predict = Callable[[Any], list[Detections]]


def predict_and_score(job: ReferencePredictionJob) -> Iterator[Scores]:
    """Write the detections of the weights; then yield their scores and those of each served precision."""
    sample = unpack_sample(job.sample, job.task, job.folder / "images")
    reference = PredictionStore(job.reference)
    _predict(job, sample, reference)
    for predictions in (reference, *map(PredictionStore, job.served)):
        yield evaluate_predictions(predictions, sample)


def predict_chunks(job: PredictionJob) -> Iterator[PredictedChunk]:
    """Write the detections in each chunk of images that is not written yet; yield each when it is."""
    missing = [number for number in range(len(job.chunks)) if not job.is_done(number)]
    if not missing:
        return
    model = load_model(str(job.weights), job.task)
    head_inputs = HeadInputs(model) if job.embeddings else None
    predict = _predictor(model, job, MAX_DETECTIONS if job.views == (View.PLAIN,) else 0)
    for number in missing:
        embeddings: list[Floats] = []

        def predict_views(image: Path, embeddings: list[Floats] = embeddings) -> Iterator[Detections]:
            yield from _predict_views(predict, image, job.views)
            if head_inputs:
                embeddings.append(head_inputs.embedding())

        write_predictions(job.predictions[number], chain.from_iterable(map(predict_views, job.chunks[number])))
        if head_inputs:
            write_embeddings(job.embeddings[number], embeddings)
        yield PredictedChunk(number=number, images=len(job.chunks[number]))


def _predict_views(predict: _Predict, image: Path, views: Sequence[View]) -> list[Detections]:
    if views == (View.PLAIN,):
        return predict(str(image))
    pixels = read_image(image)[:, :, ::-1]  # Ultralytics takes arrays as BGR
    found = predict([render_view(pixels, view) for view in views])
    return [restore_boxes(each, view) for each, view in zip(found, views, strict=True)]


def _predict(job: ReferencePredictionJob, sample: ValidationSample, folder: PredictionStore) -> None:
    predict = _predictor(load_model(str(job.weights), job.task), job, MAX_STORED_MASKS)
    for image in sample.images:
        folder.add(*predict(str(image.path)))


def _predictor(model: Any, job: ReferencePredictionJob | PredictionJob, masks: int) -> _Predict:  # noqa: ANN401
    options = {"imgsz": job.image_size, "device": job.device, "project": str(job.folder)}

    def predict(source: Any) -> list[Detections]:  # noqa: ANN401 - a name, or a batch of arrays
        results = model.predict(source, **_LIKE_SERVED, **_QUIET, **options)
        found = [to_detections(result.cpu().numpy(), masks) for result in results]
        if job.task == "classify":
            return found
        return [each.select(has_visible_area(each)) for each in found]

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

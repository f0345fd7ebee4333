"""What weights find in the images of a sample, by Ultralytics' own predict."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.dataset.validation_sample import Sample, unpack_sample
from tasks.serving.pre_postprocess import real_detections
from tasks.serving.served_model import MAX_DETECTIONS, NMS_CONFIDENCE, NMS_IOU
from tasks.training.job import ReferenceJob
from tasks.training.trainer.prediction_metrics import judge
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.geometry import clip, hull
from tasks.vision.metrics import Scores
from tasks.vision.predictions import MASKED, Found, FoundFolder, pack_masks

# What the served graph does: its confidence and its NMS are those that Ultralytics validates with.
_LIKE_SERVED = {"conf": NMS_CONFIDENCE, "iou": NMS_IOU, "max_det": MAX_DETECTIONS, "rect": False}
_QUIET = {"verbose": False, "save": False}


def refer(job: ReferenceJob) -> Iterator[Scores]:
    """Keep what the weights find in each image; then yield the scores of these, and of what was served."""
    sample = unpack_sample(job.sample, job.task, job.folder / "images")
    reference = FoundFolder(job.reference)
    _predict(job, sample, reference)
    for side in (reference, FoundFolder(job.served)):
        yield judge(side, sample)


def _predict(job: ReferenceJob, sample: Sample, folder: FoundFolder) -> None:
    model = load_model(str(job.weights), job.task)
    for image in sample.images:
        how = {"imgsz": job.image_size, "device": job.device, "project": str(job.folder)}
        (result,) = model.predict(str(image.path), **_LIKE_SERVED, **_QUIET, **how)
        folder.add(found_by_ultralytics(result.cpu().numpy()))


def found_by_ultralytics(result: Any) -> Found:  # noqa: ANN401 - ultralytics ships no types
    """One result of predict, on the CPU as arrays; masks of the `MASKED` best."""
    height, width = result.orig_shape
    if result.probs is not None:
        return Found.classified(width, height, np.asarray(result.probs.data, np.float32))
    boxes = result.boxes if result.obb is None else result.obb
    own = _more(result)
    corners = boxes.xyxy if result.obb is None else clip(hull(own["rotated"]), width, height)
    lists = np.asarray(corners, np.float32), np.asarray(boxes.conf, np.float32), np.asarray(boxes.cls, np.int32)
    found = Found(width, height, *lists, **own)
    return found.kept(real_detections(found))


def _more(result: Any) -> dict[str, Any]:  # noqa: ANN401
    """What the task gives beside boxes."""
    own: dict[str, Any] = {}
    if result.obb is not None:
        own["rotated"] = np.asarray(result.obb.xywhr, np.float32)
    if result.keypoints is not None:
        points = np.asarray(result.keypoints.data, np.float32)
        visible = np.ones((*points.shape[:2], 3 - points.shape[2]), np.float32)
        own["keypoints"] = np.concatenate([points, visible], axis=2)
    if result.masks is not None:
        own["masks"] = pack_masks(result.masks.data[:MASKED])
    return own

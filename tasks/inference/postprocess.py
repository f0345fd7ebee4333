"""Outputs of the served graph as detections that reach the run's thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from tasks.errors import safe_repr
from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import Outputs, postprocess
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections, VideoPosition
from tasks.vision.geometry import Floats, Letterbox

MOST_THRESHOLDS = 20  # that a person is told


def to_detections(
    outputs: Outputs,
    model: ServedModel,
    letterbox: Letterbox,
    params: InferenceParams,
    source: str,
    position: VideoPosition | None = None,
) -> Detections:
    """Return the detections in the outputs of one image (the served arrays without their first dimension).

    Detections below the threshold of their class, rows with NaN and boxes inside the padding are dropped; `params.iou`
    takes effect if it is stricter than the NMS in the graph. Outputs of other names or shapes are a ValueError.
    """
    thresholds = class_thresholds(model.class_names, params)
    detections = postprocess(outputs, model.task, letterbox, float(thresholds.min()), params.iou)
    if detections.class_scores is not None:
        detections = Detections.from_class_scores(
            detections.class_scores, thresholds, detections.width, detections.height
        )
    else:
        detections = drop_below(detections, thresholds)
    if position:
        detections = replace(detections, frame=position.frame, timestamp_ms=position.timestamp_ms)
    return replace(detections.with_polygons(), source=source, mask=None)


def drop_below(detections: Detections, thresholds: Floats) -> Detections:
    """Return the detections that reach the threshold [C] of their class."""
    # A broken graph may say any class, also one below 0.
    known = np.clip(detections.class_id, 0, len(thresholds) - 1)
    return detections.select(detections.confidence >= thresholds[known])


def class_thresholds(names: Sequence[str], params: InferenceParams) -> Floats:
    """Return the lowest confidence [C] of each class; [1] if the model has no names.

    Raises:
        ValueError: `params` names a class that the model does not have.
    """
    unknown = sorted(set(params.class_confidence) - set(names))
    if unknown:
        raise ValueError(
            f"expected classes of the model in class_confidence ({', '.join(names)}), found {unknown[0]!r}; correct it"
        )
    thresholds = [params.class_confidence.get(name, params.least_confidence) for name in names]
    return np.asarray(thresholds or [params.least_confidence], np.float32)


def list_thresholds(thresholds: Mapping[str, float]) -> str:
    """Return from which confidence the detections of each class count, of at most `MOST_THRESHOLDS` of them."""
    told = [f"{value:.3f} for {safe_repr(name)}" for name, value in islice(thresholds.items(), MOST_THRESHOLDS)]
    more = len(thresholds) - len(told)
    return ", ".join(told) + (f" and others for {more:,} more classes" if more else "")


def describe_thresholds(params: InferenceParams) -> str:
    """Return from which confidence detections of a run with these parameters count, and where that comes from."""
    least = f"from {params.least_confidence:g}"
    own = params.class_confidence
    told = f"from {list_thresholds(own)}; other classes {least}" if own else least
    return f"{told}. Those are the thresholds kept with the version (auto)" if params.confidence == "auto" else told

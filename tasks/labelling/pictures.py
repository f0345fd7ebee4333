"""Images with the labels of a model, as the page shows them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tasks.inference.results.predicted_images import PredictedImage
from tasks.media.annotate import annotate_image
from tasks.media.images import decode_image, encode_jpeg, resize_to_fit
from tasks.rendering.html import jpeg_data_uri
from tasks.rendering.palette import OTHERS
from tasks.vision.detections import Detections

_SIDE = 400  # pixels
_QUALITY = 78

Rows = Sequence[Mapping[str, Any]]  # of predictions.parquet


class Doubt(NamedTuple):
    """Detections of a class in an image that are in doubt, the surest first, and the thresholds of the class.

    `high` is None if nothing of it is taken.
    """

    class_name: str
    confidences: Sequence[float]
    low: float
    high: float | None


class DrawnImage(NamedTuple):
    """An image by its name, a picture as a data URI, and what in it is in doubt, the class with the surest first."""

    name: str
    picture: str
    doubts: Sequence[Doubt] = ()


def draw_labels(
    data: bytes,
    predicted: PredictedImage,
    rows: Rows,
    class_names: Sequence[str],
    *,
    others: Rows = (),
    doubts: Sequence[Doubt] = (),
) -> DrawnImage:
    """Return an image, whose bytes are `data`, with detections drawn on it, `others` in grey."""
    image = resize_to_fit(decode_image(data), _SIDE)
    if others:
        sure = to_detections(predicted, others).rescale(image.shape[1], image.shape[0])
        image = annotate_image(image, sure, class_names, labels=False, colour=OTHERS)
    labels = to_detections(predicted, rows).rescale(image.shape[1], image.shape[0])
    drawn = annotate_image(image, labels, class_names)
    return DrawnImage(predicted.source, jpeg_data_uri(encode_jpeg(drawn, _QUALITY)), doubts)


def to_detections(predicted: PredictedImage, rows: Rows) -> Detections:
    """Return rows of an image as detections, with what the task has beside boxes."""
    own: dict[str, Any] = {}
    if any("polygon" in row for row in rows):
        own["polygons"] = tuple(np.array(row["polygon"] or (), np.float32).reshape(-1, 2) for row in rows)
    if any("keypoints" in row for row in rows):
        own["keypoints"] = np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), -1, 3)
    return Detections(
        width=predicted.width,
        height=predicted.height,
        xyxy=np.array([[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows], np.float32).reshape(-1, 4),
        confidence=np.array([row["confidence"] for row in rows], np.float32),
        class_id=np.array([row["class_id"] for row in rows], np.int32),
        **own,
    )

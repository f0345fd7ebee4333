"""Images with the labels of a model, as the page shows them."""

from collections.abc import Sequence
from typing import NamedTuple

from tasks.inference.results.parquet import Rows, to_detections
from tasks.inference.results.predicted_images import PredictedImage
from tasks.media.annotate import annotate_image
from tasks.media.images import decode_image, encode_jpeg, resize_to_fit
from tasks.rendering.html import jpeg_data_uri
from tasks.rendering.palette import OTHERS

_SIDE = 400  # pixels
_QUALITY = 78


class Doubt(NamedTuple):
    """Detections of a class in an image that are in doubt, the surest first, and the thresholds of the class.

    `high` is None if nothing of it is taken, and `drops` is whether anything is dropped.
    """

    class_name: str
    confidences: Sequence[float]
    low: float
    high: float | None
    drops: bool = True


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
        sure = to_detections(others, predicted.width, predicted.height).rescale(image.shape[1], image.shape[0])
        image = annotate_image(image, sure, class_names, labels=False, colour=OTHERS)
    labels = to_detections(rows, predicted.width, predicted.height).rescale(image.shape[1], image.shape[0])
    drawn = annotate_image(image, labels, class_names)
    return DrawnImage(predicted.source, jpeg_data_uri(encode_jpeg(drawn, _QUALITY)), doubts)

"""The images in which both sides differ most, with the detections of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.dataset.validation_sample import ValidationSample
from tasks.media.annotate import annotate_image
from tasks.media.images import encode_jpeg, read_image, shrink_to_fit
from tasks.media.text_rendering import printable_text
from tasks.rendering.html import jpeg_data_uri
from tasks.serving.parity.rules import ParityReport, class_scores_as_detection
from tasks.vision.detections import Detections, class_name
from tasks.vision.geometry import Rgb

MAX_IMAGES = 8
SIDE = 560
_AGREED = (205, 205, 205)
_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class ComparisonSide:
    """One side of an exhibit: the picture as a data URI, `compared` detections of which `unmatched` have no partner."""

    uri: str
    compared: int
    unmatched: int
    best: str


@dataclass(frozen=True, kw_only=True)
class ComparisonImage:
    """An image as the weights and as the served model see it."""

    name: str
    reference: ComparisonSide
    served: ComparisonSide


def draw_worst(
    parity: ParityReport, sample: ValidationSample, reference: Sequence[Detections], served: Sequence[Detections]
) -> list[ComparisonImage]:
    """Return the images in which most detections have no partner, at most `MAX_IMAGES`, those with the most first.

    Detections that agree are grey; the others have the colour and the name of their class.
    """
    exhibits = []
    for index in parity.worst[:MAX_IMAGES]:
        own = parity.images[index]
        image = shrink_to_fit(read_image(sample.images[index].path), SIDE)
        sides = ((reference[index], own.unmatched_reference), (served[index], own.unmatched_served))
        drawn = [_draw_side(image, side, rows, parity.confidence, sample.class_names) for side, rows in sides]
        exhibits.append(ComparisonImage(name=own.name, reference=drawn[0], served=drawn[1]))
    return exhibits


def _draw_side(
    image: Rgb, detections: Detections, unmatched: Sequence[int], confidence: float, names: Sequence[str]
) -> ComparisonSide:
    compared = np.flatnonzero(class_scores_as_detection(detections).confidence >= confidence).tolist()
    best = ""
    if detections.class_scores is not None:
        top = int(detections.class_scores.argmax())
        best = f"{printable_text(class_name(names, top))} {detections.class_scores[top]:.3f}"
    else:
        shown = detections.with_polygons().rescale(image.shape[1], image.shape[0])
        agreed = shown.select(np.array(sorted({*compared} - {*unmatched}), np.intp))
        image = annotate_image(image, agreed, names, labels=False, colour=_AGREED)
        image = annotate_image(image, shown.select(np.array(sorted(unmatched), np.intp)), names)
    uri = jpeg_data_uri(encode_jpeg(image, _QUALITY))
    return ComparisonSide(uri=uri, compared=len(compared), unmatched=len(unmatched), best=best)

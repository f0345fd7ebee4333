"""What both sides see in the images in which they differ most."""

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
    """Return the images in which most detections have no partner, at most `SHOWN`, those with the most first.

    Detections that agree are grey; the others have the colour and the name of their class.
    """
    exhibits = []
    for place in parity.worst[:MAX_IMAGES]:
        own, image = parity.images[place], shrink_to_fit(read_image(sample.images[place].path), SIDE)
        sides = ((reference[place], own.unmatched_reference), (served[place], own.unmatched_served))
        seen = [_seen(image, found, lone, parity.confidence, sample.class_names) for found, lone in sides]
        exhibits.append(ComparisonImage(name=own.name, reference=seen[0], served=seen[1]))
    return exhibits


def _seen(
    image: Rgb, found: Detections, lone: Sequence[int], confidence: float, names: Sequence[str]
) -> ComparisonSide:
    best = ""
    if found.class_scores is not None:
        top = int(found.class_scores.argmax())
        best = f"{printable_text(class_name(names, top))} {found.class_scores[top]:.3f}"
    compared = np.flatnonzero(class_scores_as_detection(found).confidence >= confidence).tolist()
    canvas = image if found.class_scores is not None else _drawn(image, found, compared, lone, names)
    return ComparisonSide(
        uri=jpeg_data_uri(encode_jpeg(canvas, _QUALITY)), compared=len(compared), unmatched=len(lone), best=best
    )


def _drawn(image: Rgb, found: Detections, compared: Sequence[int], lone: Sequence[int], names: Sequence[str]) -> Rgb:
    height, width = image.shape[:2]
    shown = found.with_polygons().rescale(width, height)
    agreed = shown.select(np.array(sorted({*compared} - {*lone}), np.intp))
    canvas = annotate_image(image, agreed, names, labels=False, colour=_AGREED)
    return annotate_image(canvas, shown.select(np.array(sorted(lone), np.intp)), names)

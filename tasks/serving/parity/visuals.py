"""What both sides see in the images in which they differ most."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.dataset.validation_sample import ValidationSample
from tasks.media.annotate import annotate_image
from tasks.media.images import read_image, shrink_to_fit
from tasks.media.text_rendering import printable_text
from tasks.rendering.palette import class_colour
from tasks.serving.parity.rules import ParityReport, class_scores_as_detection
from tasks.vision.detections import VISIBLE, Detections, class_name
from tasks.vision.geometry import Letterbox, Rgb

MAX_IMAGES = 8
SIDE = 560
_AGREED = (205, 205, 205)
_QUALITY = 82


@dataclass(frozen=True)
class ComparisonSide:
    """One side of an exhibit: the picture as a data URI, `compared` detections of which `unmatched` have no partner."""

    uri: str
    compared: int
    unmatched: int
    best: str


@dataclass(frozen=True)
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
        exhibits.append(ComparisonImage(own.name, *seen))
    return exhibits


def _seen(
    image: Rgb, found: Detections, lone: Sequence[int], confidence: float, names: Sequence[str]
) -> ComparisonSide:
    best = ""
    if found.class_scores is not None:
        top = int(found.class_scores.argmax())
        best = f"{printable_text(class_name(names, top))} {found.class_scores[top]:.3f}"
    compared = np.flatnonzero(class_scores_as_detection(found).confidence >= confidence).tolist()
    canvas = image.copy() if found.class_scores is not None else _drawn(image, found, compared, lone, names)
    bgr = cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return ComparisonSide(
        f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}", len(compared), len(lone), best
    )


def _drawn(image: Rgb, found: Detections, compared: Sequence[int], lone: Sequence[int], names: Sequence[str]) -> Rgb:
    height, width = image.shape[:2]
    canvas = image.copy()
    for row in compared:
        colour = class_colour(int(found.class_id[row])) if row in lone else _AGREED
        for outline in _outlines(found, row, width, height):
            cv2.polylines(canvas, [outline], isClosed=True, color=colour, thickness=1, lineType=cv2.LINE_AA)
        for x, y in _points(found, row, width, height):
            cv2.circle(canvas, (x, y), 3, colour, cv2.FILLED, cv2.LINE_AA)
    rows = list(lone)
    detections = Detections(
        width=found.width,
        height=found.height,
        xyxy=found.xyxy[rows],
        confidence=found.confidence[rows],
        class_id=found.class_id[rows],
    )
    return annotate_image(canvas, detections.rescale(width, height), names)


def _outlines(found: Detections, row: int, width: int, height: int) -> list[NDArray[np.int32]]:
    """The rotated box, the edges of the mask, or the box."""
    gains = np.array([width / found.width, height / found.height], np.float32)
    if found.xywhr is not None:
        x, y, wide, high, angle = found.xywhr[row].tolist()
        corners = np.asarray(cv2.boxPoints(((x, y), (wide, high), float(np.rad2deg(angle)))), np.float32)
        return [_whole(corners * gains)]
    mask = found.unpack_mask(row)
    if mask is None:
        left, top, right, bottom = found.xyxy[row].tolist()
        return [_whole(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32) * gains)]
    inner = Letterbox.fit(found.width, found.height, len(mask))
    cut = mask[inner.top : inner.top + inner.inner_height, inner.left : inner.left + inner.inner_width]
    shown = cv2.resize(cut.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return [_whole(each) for each in cv2.findContours(shown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]]


def _points(found: Detections, row: int, width: int, height: int) -> list[tuple[int, int]]:
    if found.keypoints is None:
        return []
    shown = found.keypoints[row][found.keypoints[row, :, 2] >= VISIBLE, :2]
    return [(int(x), int(y)) for x, y in shown * [width / found.width, height / found.height]]


def _whole(corners: object) -> NDArray[np.int32]:
    return np.asarray(np.rint(np.asarray(corners)), np.int32)

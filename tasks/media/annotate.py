"""Detections drawn on an image, for every task."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.media.text_rendering import Colour, drawable_text, label_size, text_size, write_label
from tasks.rendering.palette import class_colour
from tasks.vision.detections import VISIBLE, Detections, class_name
from tasks.vision.geometry import Floats, Rgb

_FILL = 0.4  # opacity of a filled outline
_NO_RING = np.empty((0, 2), np.int32)
_MAX_DASHES = 500  # of an outline
_MAX_COORDINATE = 1e6  # pixels: points farther away look the same
_MIDDLE = (255, 255, 255)
_LEFT = (255, 150, 40)
_RIGHT = (60, 200, 255)
Ring = NDArray[np.int32]
# Keypoints of COCO: nose, then eyes, ears, shoulders, elbows, wrists, hips, knees and ankles, each left and right.
_BODY = 17
LIMBS = (
    *((0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (11, 12), (5, 11), (6, 12)),
    *((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)),
)


def annotate_image(
    image: Rgb,
    detections: Detections,
    class_names: Sequence[str],
    *,
    labels: bool = True,
    colour: Colour | None = None,
    dashed: bool = False,
) -> Rgb:
    """Return a copy of the uint8 [H, W, 3] image with its detections, which are in its pixels, drawn on it.

    Rotated boxes are drawn as they lie, masks as outlines with a light fill, keypoints from `VISIBLE` on as points,
    those of COCO's body with its limbs; classes of the whole image are labels in its corner. Each has the colour of its
    class, or `colour`; the highest confidence is on top. A confidence that is no number is not written. `dashed`
    ones have their outlines alone, on black, which is seen on any image.
    """
    canvas = image.copy()
    line = line_width(detections.width, detections.height)
    colours = [colour or class_colour(number) for number in detections.class_id.tolist()]
    texts = list(_texts(detections, class_names))
    if detections.is_of_whole_picture:
        if labels:
            _stack(canvas, texts, colours, text_size(line))
        return canvas
    shapes = _shapes(detections, colours)
    if dashed:
        _draw_dashes(canvas, shapes, line)
    else:
        _draw_shapes(canvas, shapes, detections.xywhr is None, line)
    if detections.keypoints is not None and not dashed:
        for box, points in zip(detections.xyxy[::-1], detections.keypoints[::-1], strict=True):
            _draw_points(canvas, points, min(line, max(float((box[2:] - box[:2]).max()) / 40, 1)), colour)
    if labels:
        _write_labels(canvas, detections, texts, colours, line)
    return canvas


def line_width(width: int, height: int) -> int:
    """Return the line width in pixels for an image of that size."""
    return max(round((width + height) / 2 * 0.003), 2)


def _texts(detections: Detections, class_names: Sequence[str]) -> Iterator[str]:
    ids = [0] * len(detections) if detections.tracker_id is None else detections.tracker_id.tolist()
    for number, confidence, track in zip(
        detections.class_id.tolist(), detections.confidence.tolist(), ids, strict=True
    ):
        name = drawable_text(class_name(class_names, number), f"class {number}")
        told = name if np.isnan(confidence) else f"{name} {confidence:.2f}"
        yield f"#{track} {told}" if track else told


def _shapes(detections: Detections, colours: Sequence[Colour]) -> list[tuple[Ring, bool, Colour]]:
    """Of each detection, the best last: its outline or else its box, whether it is an outline, and its colour."""
    rings = [_pixels(ring) for ring in detections.polygons or ()] or [_NO_RING] * len(detections)
    boxes = _pixels(detections.xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    return [
        (ring if len(ring) else box, bool(len(ring)), colour)
        for ring, box, colour in zip(rings, boxes, colours, strict=True)
    ][::-1]


def _draw_shapes(canvas: Rgb, shapes: Sequence[tuple[Ring, bool, Colour]], fill: bool, line: int) -> None:
    if fill:
        _fill(canvas, [(ring, colour) for ring, is_outline, colour in shapes if is_outline])
    for ring, is_outline, colour in shapes:
        if is_outline:
            cv2.polylines(canvas, [ring], isClosed=True, color=colour, thickness=line, lineType=cv2.LINE_AA)
        else:
            cv2.rectangle(canvas, ring[0].tolist(), ring[2].tolist(), colour, line)


def _draw_dashes(canvas: Rgb, shapes: Sequence[tuple[Ring, bool, Colour]], line: int) -> None:
    for ring, _, colour in shapes:
        cv2.polylines(canvas, [ring], isClosed=True, color=(0, 0, 0), thickness=line + 2, lineType=cv2.LINE_AA)
        corners = np.concatenate([ring, ring[:1]]).astype(float)
        places = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
        ends = np.linspace(0, places[-1], 2 * max(min(round(places[-1] / (6 * line)), _MAX_DASHES), 2) + 1)
        for begin, end in zip(ends[::2], ends[1::2], strict=False):
            at = np.unique([begin, *places[(places > begin) & (places < end)], end])
            dash = np.stack([np.interp(at, places, corners[:, axis]) for axis in (0, 1)], axis=1)
            cv2.polylines(canvas, [_pixels(dash)], isClosed=False, color=colour, thickness=line, lineType=cv2.LINE_AA)


def _fill(canvas: Rgb, shapes: Sequence[tuple[Ring, Colour]]) -> None:
    """Tint the insides of the rings, all at once, and only the part of the image that they are in."""
    if not shapes:
        return
    corners = np.concatenate([ring for ring, _ in shapes])
    left, top = np.maximum(corners.min(axis=0), 0).tolist()
    right, bottom = (corners.max(axis=0) + 1).tolist()
    below = canvas[top:bottom, left:right]
    if not below.size:
        return
    tinted = below.copy()
    for ring, colour in shapes:
        cv2.fillPoly(tinted, [ring], colour, offset=(-left, -top))
    cv2.addWeighted(tinted, _FILL, below, 1 - _FILL, 0, dst=below)


def _draw_points(canvas: Rgb, points: Floats, line: float, only: Colour | None) -> None:
    """Draw keypoints [K, 3]; the left and the right side of a body (its own sides) differ in colour."""
    visible = (points[:, 2] >= VISIBLE).tolist()
    centres = [(int(x), int(y)) for x, y in _pixels(points[:, :2])]
    is_body = len(centres) == _BODY
    for one, other in LIMBS if is_body else ():
        if visible[one] and visible[other]:
            colour = only or (_side(one) if one % 2 == other % 2 else _MIDDLE)
            cv2.line(canvas, centres[one], centres[other], colour, max(round(line * 0.7), 1), cv2.LINE_AA)
    radius = max(round(line), 1)
    for number, centre in enumerate(centres):
        if visible[number]:
            colour = only or (_side(number) if is_body else class_colour(number))
            cv2.circle(canvas, centre, radius + 1, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(canvas, centre, radius, colour, cv2.FILLED, cv2.LINE_AA)


def _side(keypoint: int) -> Colour:
    if keypoint == 0:
        return _MIDDLE
    return _LEFT if keypoint % 2 else _RIGHT


def _write_labels(
    canvas: Rgb, detections: Detections, texts: Sequence[str], colours: Sequence[Colour], line: int
) -> None:
    """Write each label above its object if there is room, else inside it; never past the left or right edge."""
    size = text_size(line)
    for row in reversed(range(len(detections))):
        width, height = label_size(texts[row], size)
        ring = None if detections.polygons is None else detections.polygons[row]
        if ring is not None and len(ring):
            x, y = _pixels(ring)[ring[:, 1].argmin()].tolist()
            x -= width // 2
        else:
            x, y = (np.rint(detections.xyxy[row, :2]).astype(int) - line // 2).tolist()
        left = max(min(x, canvas.shape[1] - width), 0)
        top = y - height if y >= height else max(y, 0)
        write_label(canvas, texts[row], (left, top), colours[row], size)


def _stack(canvas: Rgb, texts: Sequence[str], colours: Sequence[Colour], size: int) -> None:
    """Write labels below one another, as many as there is room for, the first in any case."""
    top = 0
    for text, colour in zip(texts, colours, strict=True):
        height = label_size(text, size)[1]
        if top and top + height > canvas.shape[0]:
            return
        write_label(canvas, text, (0, top), colour, size)
        top += height


def _pixels(points: NDArray[Any]) -> Ring:
    return np.asarray(np.rint(np.clip(points, -_MAX_COORDINATE, _MAX_COORDINATE)), np.int32)

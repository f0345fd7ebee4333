"""Boxes and labels on a picture."""

from collections.abc import Sequence

import cv2
import numpy as np

from tasks.core.detections import Detections, class_name
from tasks.core.geometry import Rgb

Colour = tuple[int, int, int]

_GOLDEN_ANGLE = 137.508
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_colour(class_id: int) -> Colour:
    """Return the RGB colour of a class: the same in every picture, and far from those of its neighbours."""
    hue = (class_id * _GOLDEN_ANGLE + 200) % 360
    lightness = (150, 190, 120)[class_id // 8 % 3]
    pixel = np.array([[[hue / 2, lightness, 235]]], np.uint8)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HLS2RGB)[0, 0].tolist()
    return int(red), int(green), int(blue)


def draw(image: Rgb, found: Detections, class_names: Sequence[str], *, labels: bool = True) -> Rgb:
    """Return a copy of the uint8 [H, W, 3] picture with its detections drawn, the surest on top.

    `found` must be in pixels of this very picture (see `Detections.scaled`).
    """
    canvas = image.copy()
    line = line_width(found.width, found.height)
    corners = np.rint(found.boxes).astype(int).tolist()
    colours = [class_colour(number) for number in found.class_id.tolist()]
    for (left, top, right, bottom), colour in reversed(list(zip(corners, colours, strict=True))):
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, line, cv2.LINE_AA)
    for index in reversed(range(len(found) if labels else 0)):
        name = printable(class_name(class_names, int(found.class_id[index])))
        left, top = corners[index][:2]
        _write_label(canvas, f"{name} {found.confidence[index]:.2f}", (left, top), colours[index], line)
    return canvas


def line_width(width: int, height: int) -> int:
    """Return the line width in pixels that suits a picture of that size."""
    return max(round((width + height) / 2 * 0.003), 2)


def printable(text: str, longest: int = 40) -> str:
    """Return the text on one line, without control characters, shortened to `longest` characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _write_label(canvas: Rgb, text: str, corner: tuple[int, int], colour: Colour, line: int) -> None:
    scale = max(line / 3.2, 0.42)
    thickness = max(round(scale * 1.6), 1)
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    height, pad = height + below, line + 2
    # Above the box where there is room, else inside it; never past the right edge.
    left = max(min(corner[0], canvas.shape[1] - width - 2 * pad), 0)
    top = corner[1] - height - 2 * pad
    top = corner[1] if top < 0 else top
    cv2.rectangle(canvas, (left, top), (left + width + 2 * pad, top + height + 2 * pad), colour, cv2.FILLED)
    baseline = (left + pad, top + pad + height - below)
    cv2.putText(canvas, text, baseline, _FONT, scale, _ink(colour), thickness, cv2.LINE_AA)


def _ink(background: Colour) -> Colour:
    luminance = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)

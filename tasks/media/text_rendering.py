"""Short texts on an image, in any script of OpenCV's own font."""

import re
import threading

import cv2

from tasks.vision.geometry import Rgb

Colour = tuple[int, int, int]

_WEIGHT = 550
_RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]+"
_RUN = re.compile(rf"{_RIGHT_TO_LEFT}(?:\s+{_RIGHT_TO_LEFT})*")
_own = threading.local()


def printable_text(text: str, longest: int = 40) -> str:
    """Return the text on one line, without control characters, shortened to `longest` characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def drawable_text(name: str, instead: str) -> str:
    """Return a class name as it can be drawn, or `instead` for a name of pictograms alone."""
    line = printable_text(name)
    if not any(character.isalnum() or "!" <= character <= "~" for character in line):
        return instead
    # OpenCV draws from left to right, whatever the script.
    return _RUN.sub(lambda run: run[0][::-1], line)


def text_size(line: int) -> int:
    """Return the height of letters in pixels for lines of width `line`."""
    return 6 * line + 1


def label_size(text: str, size: int) -> tuple[int, int]:
    """Return the width and height in pixels of a label with letters of `size`."""
    width = cv2.getTextSize((0, 0), text, (0, 0), _face(), size, _WEIGHT)[2]
    return width + 2 * _pad(size), size + 2 * _pad(size)


def write_label(canvas: Rgb, text: str, corner: tuple[int, int], colour: Colour, size: int) -> None:
    """Draw a label on a background of `colour`, its top left corner at `corner`, clipped to the image."""
    left, top = corner
    width, height = label_size(text, size)
    cv2.rectangle(canvas, corner, (left + width - 1, top + height - 1), colour, cv2.FILLED)
    baseline = left + _pad(size), top + _pad(size) + round(size * 0.83)
    cv2.putText(canvas, text, baseline, _ink(colour), _face(), size, _WEIGHT)


def _face() -> cv2.FontFace:
    # A face that several threads use at once sometimes draws a wrong letter.
    if not hasattr(_own, "face"):
        _own.face = cv2.FontFace("sans")
    face: cv2.FontFace = _own.face
    return face


def _pad(size: int) -> int:
    return max(round(size * 0.2), 2)


def _ink(background: Colour) -> Colour:
    luminance = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)

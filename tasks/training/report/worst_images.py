"""What a training process leaves of the pictures in which its model does worst, and how the report shows them."""

import json
from pathlib import Path
from typing import NamedTuple

from tasks.rendering.html import jpeg_data_uri

FOLDER, LISTING = "worst", "worst.json"  # below the folder of the training
SHOWN = 8
SIDE = 560  # pixels of the longer side of a drawing
MIN_CONFIDENCE = 0.25  # detections below are as good as not made


class WorstImage(NamedTuple):
    """A validation picture: `missed` labels, `extra` detections, the files of both drawings, and classes in words.

    The words are empty but for classifiers, which draw nothing.
    """

    name: str
    missed: int
    extra: int
    truth: str
    found: str
    truth_class: str
    found_class: str


class EmbeddedWorstImage(NamedTuple):
    """The same with its drawings as data URIs."""

    mistaken: WorstImage
    truth: str
    found: str


def embed_worst_images(folder: Path) -> list[EmbeddedWorstImage]:
    """Return what the training in `folder` left; nothing where it left nothing, or no more can be read."""
    place = folder / FOLDER
    try:
        listed = [WorstImage(**each) for each in json.loads((place / LISTING).read_text(encoding="utf-8"))]
        return [EmbeddedWorstImage(each, _uri(place / each.truth), _uri(place / each.found)) for each in listed[:SHOWN]]
    except (OSError, ValueError, TypeError):
        return []


def _uri(path: Path) -> str:
    return jpeg_data_uri(path.read_bytes())

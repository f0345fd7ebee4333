"""The images with the most mistakes: what a training process writes, and what the report embeds."""

import json
from pathlib import Path
from typing import NamedTuple

from tasks.rendering.html import jpeg_data_uri

FOLDER = "worst"  # below the folder of the training
LISTING = "worst.json"
SHOWN = 8
SIDE = 560  # pixels of the longer side of a drawing
MIN_CONFIDENCE = 0.25  # detections below do not count


class WorstImage(NamedTuple):
    """A validation image: `missed` labels, `extra` detections, files of both drawings, and for classify the classes."""

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
    """Return what the training in `folder` left; empty if it left nothing, or nothing that can be read."""
    worst = folder / FOLDER
    try:
        listed = [WorstImage(**each) for each in json.loads((worst / LISTING).read_text(encoding="utf-8"))]
        return [EmbeddedWorstImage(each, _uri(worst / each.truth), _uri(worst / each.found)) for each in listed[:SHOWN]]
    except (OSError, ValueError, TypeError):
        return []


def _uri(path: Path) -> str:
    return jpeg_data_uri(path.read_bytes())

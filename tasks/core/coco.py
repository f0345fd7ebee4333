"""Detections in the COCO result format: images, categories, and annotations with a score."""

from collections.abc import Sequence
from typing import Any

from tasks.core.detections import Detections


def categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the `categories`; ids are the model's class ids, which count from 0."""
    return [{"id": index, "name": name} for index, name in enumerate(names)]


def image_entry(found: Detections, image_id: int) -> dict[str, Any]:
    """Return the entry of one picture in `images`; a video frame also says its number and its time."""
    entry = {"id": image_id, "file_name": found.source, "width": found.width, "height": found.height}
    if found.frame is None:
        return entry
    return entry | {"frame": found.frame, "timestamp_ms": found.timestamp_ms}


def annotation_entries(found: Detections, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Return the entries in `annotations`, numbered from `first_id`; `bbox` is left, top, width, height in pixels."""
    rows = zip(found.boxes.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
    return [
        {
            "id": first_id + offset,
            "image_id": image_id,
            "category_id": class_id,
            "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            "area": round((x2 - x1) * (y2 - y1), 2),
            "iscrowd": 0,
            "score": round(score, 5),
        }
        for offset, ((x1, y1, x2, y2), score, class_id) in enumerate(rows)
    ]

"""The window: images that a version has answered lately, and what it found in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.inference.results.chunk_reader import PICTURES, PREDICTIONS
from tasks.inference.results.parquet import to_detections
from tasks.monitoring.profiles import Doubles, Looks, Profile, profile_images
from tasks.vision.detections import Detections

_IMAGE = ("source", "width", "height")
_DETECTION = ("source", "class_id", "confidence", "x1", "y1", "x2", "y2")


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """An image whose pixels were looked at: what it looks like, and its embedding [d], if it has one.

    `path` is its file here; None of a live request of which no picture is kept.
    """

    looks: Looks
    path: Path | None = None
    embedding: Doubles | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Window:
    """Images of runs of inference and of live requests.

    Attributes:
        found: What was found in each image; of classify its best class.
        least: [classes] the confidence from which on each run, and the live log, has kept detections.
        runs: How many runs they are of.
        live: How many of the images are of live requests; None if there is no live log.
        looked_at: Those whose pixels were looked at, by their numbers.
        remarks: Sentences about what was left out.
    """

    found: tuple[Detections, ...]
    least: Doubles
    runs: int
    live: int | None = None
    looked_at: Mapping[int, LookedAt] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def profile(self) -> Profile:
        """Return the profile of all images; of those that were not looked at the size alone is known."""
        looks: list[Looks | None] = [None] * len(self.found)
        embedded = [each.embedding for each in self.looked_at.values() if each.embedding is not None]
        embeddings = np.full((len(self.found), len(embedded[0]) if embedded else 0), np.nan)
        for number, each in self.looked_at.items():
            looks[number] = each.looks
            if each.embedding is not None:
                embeddings[number] = each.embedding
        profile = profile_images(looks, self.found, embeddings)
        sizes = np.array([(each.width * each.height) ** 0.5 for each in self.found])
        profile = replace(profile, pictures={**profile.pictures, "image size": sizes})
        return profile.from_confidence(self.least)


def read_found(
    results: Path, version: int, task: str, classes: int, most: int, rng: np.random.Generator
) -> tuple[list[Detections], int]:
    """Return what a version found in images of a run, drawn at random if there are more than `most`.

    Frames of videos are left out, which resemble each other too much to be counted as images.

    Args:
        results: The folder with the tables of the run.
        version: The number of the version; a run may have several.
        task: Of classify the best class of each image is returned.
        classes: Of how many classes the version knows; what it says of others is left out.
        most: How many images at most.
        rng: What draws them.

    Returns:
        The detections, and the number of frames that were left out.
    """
    answered = [("model_version", "=", version)]
    table = pq.read_table(results / PICTURES, columns=[*_IMAGE, "frame"], filters=answered)
    images = table.filter(pc.is_null(table["frame"]))
    chosen = images.select(_IMAGE).take(np.sort(rng.permutation(images.num_rows)[:most])).to_pylist()
    wanted = [*answered, ("source", "in", [row["source"] for row in chosen])]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(results / PREDICTIONS, columns=[*_DETECTION], filters=wanted).to_pylist():
        if 0 <= row["class_id"] < classes:
            rows.setdefault(row["source"], []).append(row)
    most_rows = 1 if task == "classify" else None
    found = [to_detections(rows.get(image["source"], [])[:most_rows], **image) for image in chosen]
    return found, table.num_rows - images.num_rows

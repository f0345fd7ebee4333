"""What a run of batch inference amounts to."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from tasks.core.detections import Detections, class_name

HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class Failure:
    """An input, or a part of one, that gave no detections, and why: expected, found, how to fix it."""

    source: str
    reason: str


@dataclass(frozen=True)
class ClassTally:
    """How often a class was found in one item, and its highest confidence there."""

    class_id: int
    count: int
    confidence: float


@dataclass(frozen=True)
class GalleryItem:
    """One image or video for people to look at; paths are relative to the run's folder, sides are in pixels.

    `annotated` is None where nothing was drawn. `frames` is 1 for an image.
    """

    source: str
    kind: Literal["image", "video"]
    thumbnail: str
    annotated: str | None
    width: int
    height: int
    frames: int
    classes: tuple[ClassTally, ...]


@dataclass(frozen=True)
class InferenceSummary:
    """Totals of a run. `images` counts still images, `frames` video frames; `images_per_second` is over both.

    `inputs` counts images (those in zips too) and videos, readable or not; `failed_inputs` those that failed, if only
    in part. `classes` maps class name to detections, most frequent first. `histogram` counts detections by confidence
    in `HISTOGRAM_BINS` equal steps from 0 to 1.
    """

    inputs: int
    images: int
    videos: int
    frames: int
    detections: int
    seconds: float
    images_per_second: float
    classes: dict[str, int]
    histogram: tuple[int, ...]
    items: tuple[GalleryItem, ...]
    failures: tuple[Failure, ...]

    @property
    def failed_inputs(self) -> int:
        """Number of inputs that failed, if only in part."""
        return len({failure.source for failure in self.failures})

    @property
    def failure_share(self) -> float:
        """Share of inputs that failed, 0 to 1; 0 where there were none."""
        return self.failed_inputs / self.inputs if self.inputs else 0.0


@dataclass
class Tally:
    """The running totals of a run, in memory that does not grow with the detections."""

    class_names: Sequence[str]
    pictures: int = 0
    frames: int = 0
    classes: Counter[int] = field(default_factory=Counter)
    bins: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BINS)
    items: list[GalleryItem] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, found: Detections) -> None:
        """Count one picture."""
        self.pictures += 1
        self.frames += found.frame is not None
        self.classes.update(found.class_id.tolist())
        steps = np.clip((found.confidence * HISTOGRAM_BINS).astype(int), 0, HISTOGRAM_BINS - 1)
        for step in steps.tolist():
            self.bins[step] += 1

    def summary(self, seconds: float) -> InferenceSummary:
        """Return the totals after `seconds` of work."""
        sources = {item.source for item in self.items} | {failure.source for failure in self.failures}
        videos = sum(item.kind == "video" for item in self.items)
        return InferenceSummary(
            inputs=len(sources),
            images=self.pictures - self.frames,
            videos=videos,
            frames=self.frames,
            detections=self.classes.total(),
            seconds=seconds,
            images_per_second=self.pictures / seconds if seconds > 0 else 0.0,
            classes={class_name(self.class_names, number): count for number, count in self.classes.most_common()},
            histogram=tuple(self.bins),
            items=tuple(self.items),
            failures=tuple(self.failures),
        )


@dataclass
class ItemTally:
    """Counts and highest confidences by class over the pictures of one item."""

    counts: Counter[int] = field(default_factory=Counter)
    best: dict[int, float] = field(default_factory=dict)

    def add(self, found: Detections) -> None:
        """Count one picture."""
        for number, confidence in zip(found.class_id.tolist(), found.confidence.tolist(), strict=True):
            self.counts[number] += 1
            self.best[number] = max(confidence, self.best.get(number, 0.0))

    def classes(self) -> tuple[ClassTally, ...]:
        """Return the tallies, most frequent class first."""
        return tuple(ClassTally(number, count, self.best[number]) for number, count in self.counts.most_common())


def item_classes(pictures: Iterable[Detections]) -> tuple[ClassTally, ...]:
    """Return the tallies by class over all pictures of one item."""
    tally = ItemTally()
    for found in pictures:
        tally.add(found)
    return tally.classes()


def output_stem(source: str) -> str:
    """Return a file name without ending for an input: safe on any disk and in any URL, one for each source.

    It depends on the source alone, so that a second attempt writes over the first. The readable part is for people, the
    digest keeps `a/x.jpg`, `b/x.jpg` and `x.png` apart.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(source).stem).strip("_")[:60]
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{readable or 'item'}-{digest}"

"""The totals of a run of batch inference, the items of its gallery, and its failures."""

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Literal, Self

import numpy as np

from tasks.inference.results.overlay import BOX, box_text, confidence_steps, first_rows, shape_texts
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

HISTOGRAM_BINS = 20
ERROR = "error"
WARNING = "warning"
MAX_GAP_S = 10.0  # between two parts of one worker, at most: it was at work between them


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An input, or a part of one, that gave no detections, and why: expected, found, how to fix it.

    A `severity` of warning is a note about a zip that was used: it does not count as failed.
    """

    source: str
    reason: str
    severity: str = ERROR

    def to_line(self) -> str:
        """Return it as one line of JSON in ASCII, without the line's end."""
        return json.dumps(
            {
                "input": to_valid_unicode(self.source),
                "reason": to_valid_unicode(self.reason),
                "severity": self.severity,
            }
        )

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read a line of `to_line`."""
        values = json.loads(line)
        return cls(source=values["input"], reason=values["reason"], severity=values["severity"])


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """The detections of a class in one item: their number, the highest confidence, and what the page draws.

    `steps` are pairs of a step of confidence and the number of detections in it, the highest first. `boxes` and
    `shapes` are texts of `overlay`, the highest confidence first: `boxes` may be fewer than `count`, `shapes` are one
    for each box, or none.
    """

    class_id: int
    count: int
    confidence: float
    steps: tuple[tuple[int, int], ...]
    boxes: str = ""
    shapes: tuple[str, ...] = ()

    def to_list(self) -> list[Any]:
        """Return values that JSON can hold; `steps` are flat."""
        flat = chain.from_iterable(self.steps)
        return [self.class_id, self.count, round(self.confidence, 4), [*flat], self.boxes, self.shapes]

    @classmethod
    def from_list(cls, values: list[Any]) -> Self:
        """Read the values of `to_list`."""
        class_id, count, confidence, steps, boxes, shapes = values
        return cls(
            class_id=class_id,
            count=count,
            confidence=confidence,
            steps=tuple(zip(steps[::2], steps[1::2], strict=True)),
            boxes=boxes,
            shapes=tuple(shapes),
        )


@dataclass(frozen=True, kw_only=True)
class GalleryItem:
    """One image or video of the gallery; paths are relative to the run's folder, sides are in pixels.

    Its thumbnail is cell `cell`, counted row by row from 0, of the contact sheet at path `sheet`. `annotated` is None
    if nothing was drawn. `frames` is 1 for an image.
    """

    source: str
    kind: Literal["image", "video"]
    sheet: str
    cell: int
    annotated: str | None
    width: int
    height: int
    frames: int
    classes: tuple[ClassCount, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the pictures that show it."""
        return (self.sheet, self.annotated) if self.annotated else (self.sheet,)

    def to_line(self) -> str:
        """Return it as one line of JSON in ASCII, without the line's end."""
        classes = [tally.to_list() for tally in self.classes]
        values = {**vars(self), "source": to_valid_unicode(self.source), "classes": classes}
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read a line of `to_line`."""
        values: dict[str, Any] = json.loads(line)
        return cls(**values | {"classes": tuple(map(ClassCount.from_list, values["classes"]))})


@dataclass(frozen=True, kw_only=True)
class InferenceSummary:
    """Totals of a run.

    Attributes:
        inputs: Images (those in zips, too) and videos, readable or not.
        failed_inputs: Those that failed, if only in part.
        images: Still images.
        videos: Videos with a frame.
        frames: Video frames.
        seconds: The time in which any worker was at work.
        classes: Detections by class name, most frequent first.
        histogram: Detections by confidence in `HISTOGRAM_BINS` equal steps from 0 to 1.
        failures: The first of `failure_count`, warnings among them.
        versions: The versions of the model that answered.
        class_names: The classes of all of them; class ids in items.jsonl and coco.json are its indices.
        left_out: Inputs that earlier runs have done, by flow run; they count as inputs that can be read.
    """

    inputs: int
    failed_inputs: int
    images: int
    videos: int
    frames: int
    detections: int
    seconds: float
    classes: dict[str, int]
    histogram: tuple[int, ...]
    failures: tuple[Failure, ...]
    failure_count: int
    versions: tuple[int, ...]
    class_names: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images and video frames in a second; 0 if no time passed."""
        return (self.images + self.frames) / self.seconds if self.seconds > 0 else 0.0

    @property
    def failure_share(self) -> float:
        """Share of inputs that failed, 0 to 1, among those that were left out, too; 0 if there were none."""
        inputs = self.inputs + sum(self.left_out.values())
        return self.failed_inputs / inputs if inputs else 0.0


@dataclass(kw_only=True)
class RunTotals:
    """Running totals, named as in `InferenceSummary`, in memory that grows with neither images nor detections."""

    inputs: int = 0
    failed_inputs: int = 0
    failure_count: int = 0
    images: int = 0
    videos: int = 0
    frames: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    histogram: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BINS)

    def count_confidences(self, confidence: Floats) -> None:
        """Add [n] confidences to the histogram."""
        steps = np.clip((confidence * HISTOGRAM_BINS).astype(int), 0, HISTOGRAM_BINS - 1)
        counts = np.bincount(steps, minlength=HISTOGRAM_BINS).tolist()
        self.histogram = [before + more for before, more in zip(self.histogram, counts, strict=True)]

    def add(self, other: Self) -> None:
        """Add the totals of another one."""
        for name in ("inputs", "failed_inputs", "failure_count", "images", "videos", "frames"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.classes.update(other.classes)
        self.histogram = [before + more for before, more in zip(self.histogram, other.histogram, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return {**vars(self), "classes": dict(self.classes)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read the values of `to_json`."""
        return cls(**values | {"classes": Counter(values["classes"])})


@dataclass(kw_only=True)
class ItemTotals:
    """Counts by class and confidence in the images of one item; `poster` is the first with the most detections."""

    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    best: dict[int, float] = field(default_factory=dict)
    poster: Detections | None = None

    def add(self, detections: Detections) -> bool:
        """Count one image or frame; return whether it is the poster now."""
        ids = detections.class_id.tolist()
        self.counts.update(zip(ids, confidence_steps(detections.confidence).tolist(), strict=True))
        for number, confidence in zip(ids, detections.confidence.tolist(), strict=True):
            if confidence > self.best.get(number, -1.0):
                self.best[number] = confidence
        if self.poster is not None and len(detections) <= len(self.poster):
            return False
        self.poster = detections
        return True

    def classes(self) -> tuple[ClassCount, ...]:
        """Return the counts, most frequent class first, with the boxes of the poster."""
        if self.poster is None:
            return ()
        steps = defaultdict[int, list[tuple[int, int]]](list)
        for (number, step), count in sorted(self.counts.items(), reverse=True):
            steps[number].append((step, count))
        rows = first_rows(self.poster)
        boxes = box_text(self.poster, rows)
        shapes = shape_texts(self.poster, rows)
        drawn = defaultdict[int, list[int]](list)
        for index, number in enumerate(self.poster.class_id[rows].tolist()):
            drawn[number].append(index)
        counts = (
            ClassCount(
                class_id=number,
                count=sum(count for _, count in steps[number]),
                confidence=confidence,
                steps=tuple(steps[number]),
                boxes="".join([boxes[BOX * index : BOX * (index + 1)] for index in drawn[number]]),
                shapes=tuple([shapes[index] for index in drawn[number]]) if shapes else (),
            )
            for number, confidence in self.best.items()
        )
        return tuple(sorted(counts, key=lambda each: -each.count))


class IntervalUnion:
    """The seconds that overlapping spans of time cover."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def add(self, start: float, end: float) -> None:
        """Add a span; it is merged with those that it touches."""
        first = bisect_left(self._ends, start - MAX_GAP_S)
        last = bisect_right(self._starts, end + MAX_GAP_S)
        self._starts[first:last] = [min([start, *self._starts[first:last]])]
        self._ends[first:last] = [max([end, *self._ends[first:last]])]

    @property
    def seconds(self) -> float:
        """The total."""
        return sum(self._ends) - sum(self._starts)


def item_classes(images: Iterable[Detections]) -> tuple[ClassCount, ...]:
    """Return the counts by class over all images or frames of one item."""
    totals = ItemTotals()
    for detections in images:
        totals.add(detections)
    return totals.classes()


def output_stem(source: str) -> str:
    """Return a file name without ending for an input: safe on any disk and in any URL, one for each source.

    It depends on the source alone, so that a second attempt writes over the first; the digest keeps `a/x.jpg` and
    `b/x.jpg` apart.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(source).stem).strip("_")[:60]
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable or 'item'}-{digest}"


def to_valid_unicode(text: str) -> str:
    r"""Return the text as valid Unicode: a lone surrogate is written out (`\udcff`), so that two names stay two."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

"""What a run of batch inference amounts to."""

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Literal, Self

import numpy as np

from tasks.inference.results.overlay import BOX, box_text, confidence_steps, first_rows, shape_texts
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

HISTOGRAM_BINS = 20
ERROR, WARNING = "error", "warning"
MAX_GAP_S = 10.0  # between two parts of one worker, at most: it was busy on the way


@dataclass(frozen=True)
class Failure:
    """An input, or a part of one, that gave no detections, and why: expected, found, how to fix it.

    A `severity` of warning is what has to be told of a zip that was used: it does not count as failed.
    """

    source: str
    reason: str
    severity: str = ERROR

    def to_line(self) -> str:
        """Return it as one line of JSON in ASCII, without the line's end."""
        said = {
            "input": to_valid_unicode(self.source),
            "reason": to_valid_unicode(self.reason),
            "severity": self.severity,
        }
        return json.dumps(said)

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read what `to_line` wrote."""
        values = json.loads(line)
        return cls(values["input"], values["reason"], values.get("severity", ERROR))


@dataclass(frozen=True)
class ClassCount:
    """How often a class was found in one item, its highest confidence there, and where it is in the item's thumbnail.

    `steps` are pairs of a step of confidence and how often it was found, the highest first. `boxes` and `shapes` are
    texts of `overlay`, the surest first: `boxes` may be fewer than `count`, `shapes` are one a box or none.
    """

    class_id: int
    count: int
    confidence: float
    steps: tuple[tuple[int, int], ...] = ()
    boxes: str = ""
    shapes: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """`steps`, or all at the highest confidence where a part from before there were steps does not say more."""
        return self.steps or ((int(confidence_steps(np.array([self.confidence]))[0]), self.count),)

    def to_list(self) -> list[Any]:
        """Return what JSON can hold; `steps` flat."""
        flat = chain.from_iterable(self.steps)
        return [self.class_id, self.count, round(self.confidence, 4), [*flat], self.boxes, self.shapes]

    @classmethod
    def from_list(cls, values: list[Any]) -> Self:
        """Read what `to_list` gave, or the first three of it."""
        class_id, count, confidence, *more = values
        if not more:
            return cls(class_id, count, confidence)
        steps, boxes, shapes = more
        pairs = tuple(zip(steps[::2], steps[1::2], strict=True))
        return cls(class_id, count, confidence, pairs, boxes, tuple(shapes))


@dataclass(frozen=True)
class GalleryItem:
    """One image or video for people to look at; paths are relative to the run's folder, sides are in pixels.

    Its thumbnail is cell `cell`, counted row by row from 0, of the contact sheet at path `sheet`. `annotated` is None
    where nothing was drawn. `frames` is 1 for an image.
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
        """Return it as one line of JSON in ASCII, without the line's end; `classes` are as in `ClassTally.to_list`."""
        classes = [tally.to_list() for tally in self.classes]
        values = {**vars(self), "source": to_valid_unicode(self.source), "classes": classes}
        return json.dumps(values, separators=(",", ":"))

    @staticmethod
    def renumbered(line: bytes, place: Callable[[int], int]) -> str:
        """Return a line that `to_line` wrote with `place` of each class id in its stead."""
        values = json.loads(line)
        for each in values["classes"]:
            each[0] = place(each[0])
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read what `to_line` wrote."""
        values: dict[str, Any] = json.loads(line)
        return cls(**values | {"classes": tuple(map(ClassCount.from_list, values["classes"]))})


@dataclass(frozen=True)
class InferenceSummary:
    """Totals of a run. `images` counts still images, `frames` video frames, `videos` those with a frame.

    `inputs` counts images (those in zips too) and videos, readable or not; `failed_inputs` those that failed, if only
    in part. `seconds` is the time in which anybody worked on the run. `classes` maps class name to detections, most
    frequent first. `histogram` counts detections by confidence in `HISTOGRAM_BINS` equal steps from 0 to 1. `failures`
    are the first of `failure_count`, warnings among them. `versions` are those of the model that answered,
    `class_names` the classes that any of them has; `ClassTally.class_id` in items.jsonl and `category_id` in coco.json
    are places in `class_names`.
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

    @property
    def images_per_second(self) -> float:
        """Images and video frames in a second; 0 where no time passed."""
        return (self.images + self.frames) / self.seconds if self.seconds > 0 else 0.0

    @property
    def failure_share(self) -> float:
        """Share of inputs that failed, 0 to 1; 0 where there were none."""
        return self.failed_inputs / self.inputs if self.inputs else 0.0


@dataclass
class RunTotals:
    """Running totals, named as in `InferenceSummary`, in memory that grows with neither pictures nor detections."""

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
        """Read what `to_json` gave."""
        return cls(**values | {"classes": Counter(values["classes"])})


@dataclass
class ItemTotals:
    """Counts by class and confidence over the pictures of one item; `poster` is the first with the most detections."""

    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    best: dict[int, float] = field(default_factory=dict)
    poster: Detections | None = None

    def add(self, found: Detections) -> bool:
        """Count one picture; return whether it is the poster now."""
        ids = found.class_id.tolist()
        self.counts.update(zip(ids, confidence_steps(found.confidence).tolist(), strict=True))
        for number, confidence in zip(ids, found.confidence.tolist(), strict=True):
            if confidence > self.best.get(number, -1.0):
                self.best[number] = confidence
        if self.poster is not None and len(found) <= len(self.poster):
            return False
        self.poster = found
        return True

    def classes(self) -> tuple[ClassCount, ...]:
        """Return the tallies, most frequent class first, with the boxes of the poster."""
        if self.poster is None or not self.best:
            return ()
        rows = first_rows(self.poster)
        boxes, shapes = box_text(self.poster, rows), shape_texts(self.poster, rows)
        steps: dict[int, list[tuple[int, int]]] = {number: [] for number in self.best}
        for (number, step), count in sorted(self.counts.items(), reverse=True):
            steps[number].append((step, count))
        places: dict[int, list[int]] = {number: [] for number in self.best}
        for place, number in enumerate(self.poster.class_id[rows].tolist()):
            places[number].append(place)
        tallies = (
            ClassCount(
                number,
                sum(count for _, count in steps[number]),
                confidence,
                tuple(steps[number]),
                "".join([boxes[BOX * place : BOX * (place + 1)] for place in places[number]]),
                tuple([shapes[place] for place in places[number]]) if shapes else (),
            )
            for number, confidence in self.best.items()
        )
        return tuple(sorted(tallies, key=lambda tally: -tally.count))


class IntervalUnion:
    """Seconds in which anybody worked, from overlapping spans of time."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def add(self, start: float, end: float) -> None:
        """Add a span; it becomes one with those that it touches, so that few are kept."""
        first, last = bisect_left(self._ends, start - MAX_GAP_S), bisect_right(self._starts, end + MAX_GAP_S)
        self._starts[first:last] = [min([start, *self._starts[first:last]])]
        self._ends[first:last] = [max([end, *self._ends[first:last]])]

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self._ends) - sum(self._starts)


def item_classes(pictures: Iterable[Detections]) -> tuple[ClassCount, ...]:
    """Return the tallies by class over all pictures of one item."""
    tally = ItemTotals()
    for found in pictures:
        tally.add(found)
    return tally.classes()


def output_stem(source: str) -> str:
    """Return a file name without ending for an input: safe on any disk and in any URL, one for each source.

    It depends on the source alone, so that a second attempt writes over the first. The readable part is for people, the
    digest keeps `a/x.jpg`, `b/x.jpg` and `x.png` apart.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(source).stem).strip("_")[:60]
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable or 'item'}-{digest}"


def to_valid_unicode(text: str) -> str:
    r"""Return the text as valid Unicode: a lone surrogate is written out (`\udcff`), so that two names stay two."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

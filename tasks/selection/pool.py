"""The images to choose from, and what a version makes of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.inference.work_plan import MediaSource
from tasks.vision.detections import Detections
from tasks.vision.geometry import Doubles, Floats, non_max_suppression

COUNTED = 0.1  # confidence from which a detection says something; there are hundreds below it in any image
_SAME_OBJECT = 0.5  # overlap of boxes of one class


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolImage:
    """An image, and what a version makes of it.

    Attributes:
        source: Where it lies.
        found: What counts of the detections, an object once, best first; of classify the likely classes.
        doubt: `uncertainty.measure_doubt` of these.
        view_consistency: How far views of the image show the same, 0 to 1; None if it was seen in one view.
        version_consistency: The same of the two versions that are compared; None if there is one.
        embedding: [D] float32 of length 1.
        thumbnail: Its 16 x 16 levels, as `find_near_duplicates` takes them.
    """

    source: MediaSource
    found: Detections
    doubt: float
    view_consistency: float | None
    version_consistency: float | None
    embedding: Floats
    thumbnail: bytes

    @property
    def expected_boxes(self) -> float:
        """How many objects are expected in it: the sum of the confidences."""
        return float(self.found.confidence.sum())


@dataclass(frozen=True, eq=False, kw_only=True)
class LearntImages:
    """What a version has learnt: embeddings [m, D] of a sample, and the objects expected of each class in all of it."""

    embeddings: Floats
    class_counts: Doubles


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """The images in the order of their names, and what is known of the version that looked at them.

    `learnt` is None if no image is to be had that the version has learnt.
    """

    images: tuple[PoolImage, ...]
    learnt: LearntImages | None
    class_names: tuple[str, ...]

    @property
    def embeddings(self) -> Floats:
        """Those of the images, [n, D]."""
        return np.stack([each.embedding for each in self.images])


def keep_counted(detections: Detections) -> Detections:
    """Return the detections that count, each object once, best first; of classify the classes that count."""
    if detections.class_scores is not None:
        thresholds = np.full(len(detections.class_scores), COUNTED, np.float32)
        own = detections.from_class_scores(detections.class_scores, thresholds, detections.width, detections.height)
        return replace(own, class_scores=detections.class_scores)
    counted = detections.select(np.flatnonzero(detections.confidence >= COUNTED))
    rows = np.column_stack([counted.xyxy, counted.confidence, counted.class_id]).astype(np.float32)
    return counted.select(non_max_suppression(rows, _SAME_OBJECT))


def align_classes(detections: Detections, names: Sequence[str], aligned: Sequence[str]) -> Detections:
    """Return detections of classes `names` with the numbers that these have in `aligned`; other classes come after."""
    every = [*aligned, *(name for name in names if name not in aligned)]
    ids = np.array([every.index(name) for name in names], np.int32)
    scores = detections.class_scores
    if scores is not None:
        scores = np.zeros(len(every), np.float32)
        scores[ids] = detections.class_scores
    return replace(detections, class_id=ids[detections.class_id], class_scores=scores)


def count_expected(found: Sequence[Detections], classes: int) -> Doubles:
    """Return how many objects of each class are expected in some images, [C]."""
    counts = np.zeros(classes)
    for each in found:
        np.add.at(counts, each.class_id, each.confidence)
    return counts

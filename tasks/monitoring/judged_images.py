"""Images whose labels are known: how well a model does on them, by the score that is estimated where none are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.dataset.image_stats import ImageStats
from tasks.evaluation.matching import LEAST_CONFIDENCE, match
from tasks.evaluation.overlaps import ComparedImage
from tasks.monitoring.profiles import OBJECT_TRAITS, Doubles, Ints, Profile, looks_of, profile_images

_RECALLS = np.linspace(0, 1, 101)  # COCO's


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedImages:
    """The profile of N images, and what of it is right.

    Attributes:
        profile: With M objects.
        correct: [M] whether each object found a label, as COCO matches at an overlap of 0.5.
        labels: [N, classes] how many labels of each class are in each image.
    """

    profile: Profile
    correct: NDArray[np.bool_]
    labels: Ints

    def from_confidence(self, least: Doubles) -> "JudgedImages":
        """Return the same with the objects whose confidence reaches that of their class in `least` [classes]."""
        kept = self.profile.confidence >= least[self.profile.class_id]
        return JudgedImages(profile=self.profile.from_confidence(least), correct=self.correct[kept], labels=self.labels)

    def select(self, images: Ints) -> "JudgedImages":
        """Return some of the images, by number; one that is named twice counts twice."""
        rows = np.concatenate([np.zeros(0, np.int64), *self.profile.rows_of(images)])
        return JudgedImages(profile=self.profile.select(images), correct=self.correct[rows], labels=self.labels[images])


def judge_images(images: Sequence[ComparedImage], stats: Sequence[ImageStats | None], classes: int) -> JudgedImages:
    """Return what a model found in images with labels, without its weakest detections, and what of it is right."""
    found = [image.predictions for image in images]
    matching = match(images)
    kept = matching.confidence >= LEAST_CONFIDENCE
    first = np.cumsum([0, *map(len, found)])[:-1]
    rows = (first[matching.image] + matching.place)[kept]
    whole = profile_images([own and looks_of(own) for own in stats], found)
    cells = matching.label_image * classes + matching.label_class
    return JudgedImages(
        profile=replace(whole, **{name: getattr(whole, name)[rows] for name in OBJECT_TRAITS}),
        correct=matching.correct[kept],
        labels=np.bincount(cells, minlength=len(images) * classes).reshape(-1, classes),
    )


def mean_average_precision(images: JudgedImages) -> float:
    """Return COCO's mAP50: the mean over the classes with labels, of which there has to be one."""
    found = images.profile
    order = np.argsort(-found.confidence, kind="stable")
    class_id, correct = found.class_id[order], images.correct[order]
    labels = images.labels.sum(axis=0)
    known = labels.nonzero()[0]
    return float(np.mean([average_precision(correct[class_id == number], labels[number]) for number in known]))


def average_precision(correct: NDArray[np.bool_] | Doubles, labels: float) -> float:
    """Return the average precision of detections in falling order of their confidence.

    `correct` says of each whether it is right, or how likely it is.
    """
    hits = np.cumsum(correct, dtype=np.float64)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(envelope[np.searchsorted(hits / labels, _RECALLS, side="left")].mean())

"""Labels that a model disagrees with: missing, spurious, of a wrong class, or badly placed; by how sure it is of each.

Every suspicion has a score from 0 to 1, and all kinds stand in one ranking. It rests on the matching of the evaluation,
so it is of boxes, masks, rotated boxes or keypoints, as the task has it. What a model has not learnt says nothing: a
label that was not found counts as far as labels of its class and size are found elsewhere.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.evaluation.matching import MIN_OVERLAP, Doubles, Matching
from tasks.evaluation.overlaps import ComparedImage
from tasks.vision.geometry import Floats, box_iou_matrix

Kind = Literal["missing", "spurious", "swapped", "misplaced"]
KINDS: tuple[Kind, ...] = ("missing", "spurious", "swapped", "misplaced")

_TOUCHING = 0.1  # overlap from which a detection may mean a label
_NEIGHBOURS = 50  # labels of like size by which it is known how well such labels are found
_LIKE_SIZE = 4  # times the area, at most
_USUAL = 25  # percentile of the overlaps of a class: labels that are placed as badly as a quarter are not suspected
_LEAST_SPAN = 0.05


@dataclass(frozen=True, kw_only=True)
class LabelError:
    """A suspicion about image number `image` of a set.

    `label` is a place among the labels of the compared image, `detection` one among its predictions: a missing label
    has no label, a spurious one no detection.
    """

    kind: Kind
    image: int
    score: float
    label: int | None
    detection: int | None


def find_label_errors(
    images: Sequence[ComparedImage], matching: Matching, min_score: float, unjudged: Sequence[Floats] = ()
) -> list[LabelError]:
    """Return the suspicions that reach `min_score`, those with the highest scores first; of each label one at most.

    `matching` is that of the images. `unjudged` are the boxes [k, 4] of further labels of each, of classes that the
    model does not know: no label is missing there.
    """
    found = list(_by_label(matching, images))
    taken = {(each.image, each.detection) for each in found}
    kept = [each for each in found if each.score >= min_score]
    kept += _missing(matching, images, taken, unjudged, min_score)
    return sorted(kept, key=lambda each: (-each.score, each.image, each.label or 0, each.detection or 0))


def _by_label(matching: Matching, images: Sequence[ComparedImage]) -> Iterator[LabelError]:
    """The worst suspicion of each label."""
    best: dict[int, tuple[float, Kind, int | None]] = {}
    for kind, label, score, row in [*_swapped(matching), *_misplaced(matching), *_spurious(matching, images)]:
        if label not in best or score > best[label][0]:
            best[label] = (score, kind, row)
    places = [np.flatnonzero(~image.ignored) for image in images]
    first = np.searchsorted(matching.label_image, np.arange(len(images)))
    for label, (score, kind, row) in best.items():
        image = int(matching.label_image[label])
        yield LabelError(
            kind=kind,
            image=image,
            score=score,
            label=int(places[image][label - first[image]]),
            detection=None if row is None else int(matching.place[row]),
        )


Suspected = Iterator[tuple[Kind, int, float, int | None]]  # kind, label, score, detection


def _swapped(matching: Matching) -> Suspected:
    """Labels on which an object of another class was found."""
    for row in np.flatnonzero(~matching.correct & (matching.other_overlap >= MIN_OVERLAP)).tolist():
        label = int(matching.other[row])
        yield "swapped", label, float(matching.confidence[row] * (1 - matching.found[label])), row


def _misplaced(matching: Matching) -> Suspected:
    """Labels whose object was found, but elsewhere than labels of its class are found."""
    usual = {
        number: np.percentile(matching.nearest_overlap[matching.correct & (matching.class_id == number)], _USUAL)
        for number in np.unique(matching.class_id[matching.correct]).tolist()
    }
    touching = (matching.nearest_overlap >= _TOUCHING) & (matching.nearest_overlap < MIN_OVERLAP)
    for row in np.flatnonzero(matching.correct | touching).tolist():
        label = int(matching.label[row] if matching.correct[row] else matching.nearest[row])
        if matching.correct[row] or not matching.found[label]:
            best = float(usual.get(int(matching.class_id[row]), MIN_OVERLAP))
            span = max(best - MIN_OVERLAP, _LEAST_SPAN)
            off = np.clip((best - matching.nearest_overlap[row]) / span, 0, 1)
            yield "misplaced", label, float(matching.confidence[row] * off), row


def _spurious(matching: Matching, images: Sequence[ComparedImage]) -> Suspected:
    """Labels on which nothing was found, or nothing sure, though such labels are found."""
    expected = _expect_found(matching, np.concatenate([each.label_areas[~each.ignored] for each in images]))
    seen = matching.found.copy()
    surest = np.full(len(seen), -1)
    hits = np.flatnonzero(matching.correct)
    surest[matching.label[hits]] = hits
    for labels, overlap in ((matching.nearest, matching.nearest_overlap), (matching.other, matching.other_overlap)):
        near = np.flatnonzero(~matching.correct & (overlap >= _TOUCHING))
        near = near[matching.confidence[near] > seen[labels[near]]]
        near = near[np.argsort(matching.confidence[near], kind="stable")]
        surest[labels[near]] = near  # of several on one label the last stays
        np.maximum.at(seen, labels[near], matching.confidence[near])
    for label, (score, row) in enumerate(zip((expected * (1 - seen)).tolist(), surest.tolist(), strict=True)):
        yield "spurious", label, score, None if row < 0 else row


def _expect_found(matching: Matching, areas: Doubles) -> Doubles:
    """[M] the mean confidence with which the labels of the class of each label and nearest to it in size are found."""
    expected = np.zeros(len(areas))
    for number in np.unique(matching.label_class).tolist():
        rows = np.flatnonzero(matching.label_class == number)
        rows = rows[np.argsort(areas[rows], kind="stable")]
        sums = np.concatenate([[0], np.cumsum(matching.found[rows])])
        first = np.clip(np.arange(len(rows)) - _NEIGHBOURS // 2, 0, max(0, len(rows) - _NEIGHBOURS))
        low = np.maximum(first, np.searchsorted(areas[rows], areas[rows] / _LIKE_SIZE))
        high = np.minimum(first + _NEIGHBOURS, np.searchsorted(areas[rows], areas[rows] * _LIKE_SIZE, "right"))
        expected[rows] = (sums[high] - sums[low]) / (high - low)
    return expected


def _missing(
    matching: Matching,
    images: Sequence[ComparedImage],
    taken: set[tuple[int, int | None]],
    unjudged: Sequence[Floats],
    min_score: float,
) -> Iterator[LabelError]:
    """Objects that were found where no label is; of several in one place the surest."""
    overlap = np.maximum(matching.nearest_overlap, matching.other_overlap)
    score = matching.confidence * (1 - overlap / MIN_OVERLAP)
    told: defaultdict[int, list[Floats]] = defaultdict(list, enumerate(map(list, unjudged)))
    free = np.flatnonzero(~matching.correct & (overlap < MIN_OVERLAP) & (score >= min_score))
    for row in free[np.argsort(-score[free], kind="stable")].tolist():
        image, place = int(matching.image[row]), int(matching.place[row])
        box = images[image].predictions.xyxy[place]
        if (image, place) in taken or _lies_on(box, told[image]):
            continue
        told[image].append(box)
        yield LabelError(kind="missing", image=image, score=float(score[row]), label=None, detection=place)


def _lies_on(box: Floats, others: Sequence[Floats]) -> bool:
    return bool(others) and bool((box_iou_matrix(box[None], np.stack(others)) >= MIN_OVERLAP).any())

"""Which class a model takes for which, and the images of each such case."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.evaluation.matching import MIN_OVERLAP, NO_LABEL, Ints, Matching

BACKGROUND = -1  # the class of what nothing was labelled at, or nothing was found at


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """`cells` maps a label's class and a detection's class to the numbers of their images, one for each object.

    `BACKGROUND` stands for a class where nothing was labelled (a false detection), or nothing found (a missed label).
    """

    cells: Mapping[tuple[int, int], tuple[int, ...]]

    def count(self, true: int, found: int) -> int:
        """Return the number of objects in a cell."""
        return len(self.cells.get((true, found), ()))


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectPairs:
    """The detections that count, by their rows in a matching, with the rows of the labels that they stand for.

    `label` is that of their class which they found, or one of another class that they overlap by half and nothing else
    found, or `NO_LABEL`. `missed` are the labels that none stands for.
    """

    row: Ints
    label: Ints
    missed: Ints


def pair_objects(matching: Matching, confidence: Mapping[int, float]) -> ObjectPairs:
    """Return the detections from the `confidence` of their class on, beside labels; those of other classes are out."""
    limits = np.array([confidence.get(number, np.inf) for number in matching.class_id.tolist()])
    used = np.flatnonzero(matching.confidence >= limits)
    free = np.ones(len(matching.label_class), np.bool_)
    right, wrong = used[matching.correct[used]], used[~matching.correct[used]]
    free[matching.label[right]] = False
    wrong = wrong[np.argsort(-matching.confidence[wrong], kind="stable")]
    taken = np.full(len(wrong), NO_LABEL)
    for place, label in enumerate(matching.other[wrong].tolist()):
        if label != NO_LABEL and free[label] and matching.other_overlap[wrong[place]] >= MIN_OVERLAP:
            free[label] = False
            taken[place] = label
    return ObjectPairs(
        row=np.concatenate([right, wrong]),
        label=np.concatenate([matching.label[right], taken]),
        missed=np.flatnonzero(free),
    )


def confuse(matching: Matching, confidence: Mapping[int, float]) -> Confusion:
    """Return the confusion of detections from the `confidence` of their class on."""
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    pairs = pair_objects(matching, confidence)
    for row, label in zip(pairs.row.tolist(), pairs.label.tolist(), strict=True):
        true = BACKGROUND if label == NO_LABEL else int(matching.label_class[label])
        cells[true, int(matching.class_id[row])].append(int(matching.image[row]))
    for label in pairs.missed.tolist():
        cells[int(matching.label_class[label]), BACKGROUND].append(int(matching.label_image[label]))
    return Confusion(cells={cell: tuple(images) for cell, images in cells.items()})

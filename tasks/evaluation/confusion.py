"""Which class a model takes for which, and the images of each such case."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.evaluation.matching import MIN_OVERLAP, NO_LABEL, Matching

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


def confuse(matching: Matching, confidence: Mapping[int, float]) -> Confusion:
    """Return the confusion of detections from the `confidence` of their class on; those of other classes do not count.

    A detection that found no label stands for one of another class that it overlaps by half, if nothing else found it.
    """
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    limits = np.array([confidence.get(number, np.inf) for number in matching.class_id.tolist()])
    used = np.flatnonzero(matching.confidence >= limits)
    free = np.ones(len(matching.label_class), np.bool_)
    right = used[matching.correct[used]]
    free[matching.label[right]] = False
    for row in right.tolist():
        own = int(matching.class_id[row])
        cells[own, own].append(int(matching.image[row]))
    wrong = used[~matching.correct[used]]
    for row in wrong[np.argsort(-matching.confidence[wrong], kind="stable")].tolist():
        label = int(matching.other[row])
        true = BACKGROUND
        if label != NO_LABEL and free[label] and matching.other_overlap[row] >= MIN_OVERLAP:
            free[label] = False
            true = int(matching.label_class[label])
        cells[true, int(matching.class_id[row])].append(int(matching.image[row]))
    for label in np.flatnonzero(free).tolist():
        cells[int(matching.label_class[label]), BACKGROUND].append(int(matching.label_image[label]))
    return Confusion(cells={cell: tuple(images) for cell, images in cells.items()})

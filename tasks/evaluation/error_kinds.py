"""What kind each error is, and what it costs, after TIDE (Bolya et al., 2020).

The cost of a kind is by how much the mAP at an overlap of 0.5 would rise if its errors alone were mended.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.matching import MIN_OVERLAP, NO_LABEL, Matching

BACKGROUND_OVERLAP = 0.1  # a detection that overlaps each label less is of something else
CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND, MISSED = KINDS = (
    *("class", "location", "both", "duplicate", "background", "missed"),
)
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True)
class ErrorKind:
    """How many errors are of a kind, and the mAP50 (0 to 1) that mending them would bring."""

    count: int
    cost: float


def error_kinds(matching: Matching) -> dict[str, ErrorKind]:
    """Return the errors of each of the `KINDS`; of detections of any confidence, as mAP counts them."""
    kinds = classify_errors(matching)
    missed = _missed(matching, kinds)
    before = mean_ap(matching)
    counts = {kind: int((kinds == kind).sum()) for kind in KINDS} | {MISSED: int(missed.sum())}
    costs = {kind: mean_ap(_mend(matching, kinds, kind)) - before for kind in KINDS if kind != MISSED}
    costs[MISSED] = mean_ap(_without_labels(matching, missed)) - before
    return {kind: ErrorKind(count=counts[kind], cost=max(0.0, costs[kind])) for kind in KINDS}


def classify_errors(matching: Matching) -> NDArray[np.str_]:
    """Return the kind of error that each of N detections is; empty for those that found a label."""
    near, far = matching.nearest_overlap, matching.other_overlap
    conditions = [
        matching.correct,
        (near >= BACKGROUND_OVERLAP) & (near < MIN_OVERLAP),
        far >= MIN_OVERLAP,
        near >= MIN_OVERLAP,
        np.maximum(near, far) < BACKGROUND_OVERLAP,
    ]
    return np.select(conditions, ["", LOCATION, CLASS, DUPLICATE, BACKGROUND], BOTH)


def mean_ap(matching: Matching) -> float:
    """Return the mean average precision at an overlap of 0.5 over the classes with labels, as COCO averages it."""
    classes = np.unique(matching.label_class)
    return float(np.mean([_average_precision(matching, number) for number in classes])) if len(classes) else 0.0


def _average_precision(matching: Matching, class_id: int) -> float:
    rows = np.flatnonzero(matching.class_id == class_id)
    order = rows[np.argsort(-matching.confidence[rows], kind="stable")]
    hits = np.cumsum(matching.correct[order])
    recall = hits / (matching.label_class == class_id).sum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS)
    return float(np.append(precision, 0.0)[places].mean())


def _missed(matching: Matching, kinds: NDArray[np.str_]) -> NDArray[np.bool_]:
    """[M] the labels that neither a detection found nor one at the wrong place or of the wrong class is near."""
    missed = np.asarray(matching.found == 0, np.bool_)
    missed[matching.nearest[kinds == LOCATION]] = False
    missed[matching.other[kinds == CLASS]] = False
    return missed


def _mend(matching: Matching, kinds: NDArray[np.str_], kind: str) -> Matching:
    """The same with each error of a kind turned into what it should be, or gone if that is found already."""
    rows = np.flatnonzero(kinds == kind)
    label = matching.label.copy()
    class_id = matching.class_id.copy()
    if kind in {CLASS, LOCATION}:
        target = matching.other if kind == CLASS else matching.nearest
        rows = rows[np.argsort(-matching.confidence[rows], kind="stable")]
        rows = rows[matching.found[target[rows]] == 0]
        rows = rows[np.unique(target[rows], return_index=True)[1]]  # the best of those with one target
        label[rows] = target[rows]
        class_id[rows] = matching.label_class[target[rows]]
    keep = (kinds != kind) | (label != NO_LABEL)
    return replace(matching, label=label[keep], class_id=class_id[keep], confidence=matching.confidence[keep])


def _without_labels(matching: Matching, gone: NDArray[np.bool_]) -> Matching:
    return replace(matching, label_class=matching.label_class[~gone])

"""Which detection found which label: one matching, on which confusion, errors, calibration and thresholds rest.

As COCO matches at an overlap of 0.5: each detection, best first, takes the label of its class that it overlaps most and
that no better one has. So what is matched at a confidence stays matched at each lower one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.overlaps import ComparedImage

MIN_OVERLAP = 0.5
LEAST_CONFIDENCE = 0.01  # weaker detections are by far the most, and change no score
NO_LABEL = -1

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matching:
    """The N detections and M labels of all images; an image is its number, a label its row.

    Attributes:
        image: [N] of each detection.
        place: [N] its place among the detections of its image.
        class_id: [N] of each detection.
        confidence: [N] 0 to 1.
        label: [N] the label that it found, or `NO_LABEL`.
        nearest: [N] the label of its class that it overlaps most, found or not, or `NO_LABEL`; `nearest_overlap` is how
            much.
        other: [N] the label of another class that it overlaps most, or `NO_LABEL`; `other_overlap` is how much.
        nearest_overlap: [N] 0 to 1.
        other_overlap: [N] 0 to 1.
        label_image: [M] of each label.
        label_class: [M] of each label.
        found: [M] the confidence with which a label was found; 0 if it was missed.
    """

    image: Ints
    place: Ints
    class_id: Ints
    confidence: Doubles
    label: Ints
    nearest: Ints
    nearest_overlap: Doubles
    other: Ints
    other_overlap: Doubles
    label_image: Ints
    label_class: Ints
    found: Doubles

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[N] whether each detection found a label."""
        return np.asarray(self.label != NO_LABEL, np.bool_)


def match(images: Sequence[ComparedImage]) -> Matching:
    """Match the detections and labels of each image, without labels that are ignored and what lies on them."""
    parts = []
    label_image: list[Ints] = []
    label_class: list[Ints] = []
    before = 0
    for number, image in enumerate(images):
        kept, part = _match_image(image)
        for name in ("label", "nearest", "other"):
            part[name] = np.where(part[name] == NO_LABEL, NO_LABEL, part[name] + before)
        predictions = image.predictions
        part |= {"image": np.full(len(kept), number), "place": kept}
        part |= {"class_id": predictions.class_id[kept].astype(np.int64)}
        parts.append(part | {"confidence": predictions.confidence[kept].astype(np.float64)})
        classes = image.labels.class_id[~image.ignored].astype(np.int64)
        label_image.append(np.full(len(classes), number))
        label_class.append(classes)
        before += len(classes)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = np.zeros(before)
    hits = columns["label"] != NO_LABEL
    found[columns["label"][hits]] = columns["confidence"][hits]
    return Matching(
        **columns, label_image=np.concatenate(label_image), label_class=np.concatenate(label_class), found=found
    )


def _match_image(image: ComparedImage) -> tuple[Ints, dict[str, NDArray[Any]]]:
    """The detections that count, and what each found: labels by their place among those that count."""
    counted = ~image.ignored
    same = image.predictions.class_id[:, None] == image.labels.class_id[None, :]
    label = np.full(len(same), NO_LABEL)
    free = np.ones(len(counted), np.bool_)
    fits = same & (image.overlaps >= MIN_OVERLAP)
    for row in np.flatnonzero(fits.any(axis=1)).tolist():
        able = free & fits[row]
        candidates = np.flatnonzero(able & counted if (able & counted).any() else able)
        if len(candidates):
            label[row] = candidates[image.overlaps[row, candidates].argmax()]
            free[label[row]] = False
    places = np.append(np.where(counted, np.cumsum(counted) - 1, NO_LABEL), NO_LABEL)  # the last is that of no label
    kept = np.flatnonzero(np.append(counted, True)[label])
    overlaps = image.overlaps[:, counted]
    nearest, nearest_overlap = _largest(np.where(same[:, counted], overlaps, 0))
    other, other_overlap = _largest(np.where(same[:, counted], 0, overlaps))
    columns = {
        "label": places[label],
        "nearest": nearest,
        "nearest_overlap": nearest_overlap,
        "other": other,
        "other_overlap": other_overlap,
    }
    return kept, {name: column[kept] for name, column in columns.items()}


def _largest(overlaps: Doubles) -> tuple[Ints, Doubles]:
    if not overlaps.shape[1]:
        return np.full(len(overlaps), NO_LABEL), np.zeros(len(overlaps))
    best = overlaps.argmax(axis=1)
    values = overlaps[np.arange(len(overlaps)), best]
    return np.where(values > 0, best, NO_LABEL), values

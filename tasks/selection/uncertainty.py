"""How little a version knows of an image: by its own confidences, and by what it makes of the image seen otherwise."""

import numpy as np

from tasks.vision.detections import Detections
from tasks.vision.geometry import Doubles, box_iou_matrix, rotated_iou_matrix

UNSURE = 0.25  # confidences from here to 1 less this: an entropy of 0.8 bits and more


def measure_doubt(found: Detections) -> float:
    """Return the entropy of what was found in an image, in bits: 0 for an image without doubt.

    For classify it is that of the classes, as a share of the most that there can be. Otherwise each of n objects is
    there or not, and the sum of their entropies is divided by the root of n. The sum alone is largest where most
    objects are, and the mean has one doubtful speck outweigh a crowd of doubts. So twice the objects, as doubtful as
    the others, count 1.4 times: more is learnt from them, and more has to be drawn.
    """
    if found.class_scores is not None:
        shares = np.clip(found.class_scores.astype(np.float64), 1e-12, 1)
        return float(-(shares * np.log(shares)).sum() / np.log(max(len(shares), 2)))
    if not len(found):
        return 0.0
    confidence = np.clip(found.confidence.astype(np.float64), 1e-6, 1 - 1e-6)
    entropies = -(confidence * np.log2(confidence) + (1 - confidence) * np.log2(1 - confidence))
    return float(entropies.sum() / np.sqrt(len(entropies)))


def measure_consistency(one: Detections, other: Detections) -> float:
    """Return how far two findings in one image are the same, from 0 to 1; for classify the share in common.

    Objects of one class are paired by overlap, the best pairs first. The consistency is the mean overlap of all
    objects, each weighted by its confidence; one without a partner has none. Two that find nothing are consistent.
    """
    if one.class_scores is not None and other.class_scores is not None:
        return float(np.minimum(one.class_scores, other.class_scores).sum())
    weights = one.confidence[:, None] + other.confidence[None, :]
    total = float(one.confidence.sum() + other.confidence.sum())
    if not total:
        return 1.0
    same_class = one.class_id[:, None] == other.class_id[None, :]
    overlaps = np.where(same_class, _overlaps(one, other), 0)
    shared = 0.0
    while overlaps.size and overlaps.max() > 0:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        shared += float(overlaps[row, column] * weights[row, column])
        overlaps[row, :] = overlaps[:, column] = 0
    return min(shared / total, 1.0)


def score_uncertainty(doubts: Doubles, consistencies: Doubles) -> Doubles:
    """Return the uncertainty of each image, [n], 0 to 1: its mean rank by doubt and by inconsistency of its views.

    Ranks, because the two have no scale in common. What has neither is at 0.
    """
    return np.asarray((_rank(doubts) + _rank(1 - consistencies)) / 2)


def _rank(values: Doubles) -> Doubles:
    """The place of each value among the different ones, 0 to 1; a value of 0 is at 0."""
    different, places = np.unique(np.append(np.round(values, 9), 0), return_inverse=True)
    return np.asarray(places[:-1] / max(len(different) - 1, 1), np.float64)


def _overlaps(one: Detections, other: Detections) -> Doubles:
    if one.xywhr is not None and other.xywhr is not None:
        return rotated_iou_matrix(one.xywhr, other.xywhr)
    return box_iou_matrix(one.xyxy, other.xyxy).astype(np.float64)

"""Which detections of the weights and of the served model are the same ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.parameters import ParityPolicy
from tasks.vision.detections import VISIBLE, Detections
from tasks.vision.geometry import box_iou_matrix, rotated_iou_matrix

VISIBILITY_TOLERANCE = 0.1
# If two boxes overlap by 0.9, their corners are at most this share of the diagonal apart.
KEYPOINT_TOLERANCE = 0.05


class Pair(NamedTuple):
    """Row numbers of two partners, and how they overlap."""

    reference: int
    served: int
    overlap: float


@dataclass(frozen=True, kw_only=True)
class MatchResult:
    """The partners in one image, and the compared detections of each side that have none."""

    pairs: tuple[Pair, ...]
    unmatched_reference: tuple[int, ...]
    unmatched_served: tuple[int, ...]


def match_detections(reference: Detections, served: Detections, confidence: float, policy: ParityPolicy) -> MatchResult:
    """Return a partner for each detection that reaches `confidence`, best overlap first; the partner may be below.

    Partners have the same class, scores and boxes as near as the policy says, and no other partner. The tolerance of
    scores below `policy.min_confidence` shrinks with them.
    """
    pairs: list[Pair] = []
    unmatched = _rows_above(reference, confidence), _rows_above(served, confidence)
    taken: tuple[set[int], set[int]] = set(), set()
    for pair in sorted(_candidates(reference, served, confidence, policy), key=lambda pair: -pair.overlap):
        if pair.reference not in taken[0] and pair.served not in taken[1]:
            pairs.append(pair)
            taken[0].add(pair.reference)
            taken[1].add(pair.served)
    return MatchResult(
        pairs=tuple(pairs),
        unmatched_reference=tuple(row for row in unmatched[0] if row not in taken[0]),
        unmatched_served=tuple(row for row in unmatched[1] if row not in taken[1]),
    )


def _rows_above(detections: Detections, confidence: float) -> list[int]:
    rows: list[int] = np.flatnonzero(detections.confidence >= confidence).tolist()
    return rows


def _candidates(reference: Detections, served: Detections, confidence: float, policy: ParityPolicy) -> Iterator[Pair]:
    scores = reference.confidence[:, None], served.confidence[None, :]
    tolerance = policy.max_score_difference * np.minimum(np.maximum(*scores) / policy.min_confidence, 1)
    near = (np.abs(scores[0] - scores[1]) <= tolerance) & (reference.class_id[:, None] == served.class_id[None, :])
    overlaps = box_iou_matrix(reference.xyxy, served.xyxy)
    near &= (np.maximum(*scores) >= confidence) & (overlaps >= policy.min_iou)
    for one, other in np.argwhere(near).tolist():
        overlap = _overlap(reference, served, Pair(one, other, float(overlaps[one, other])))
        if overlap >= policy.min_iou and _points_agree(reference, served, one, other):
            yield Pair(one, other, overlap)


def _overlap(reference: Detections, served: Detections, pair: Pair) -> float:
    """The least overlap of boxes, of rotated boxes and of masks."""
    if reference.xywhr is not None and served.xywhr is not None:
        (rotated,) = rotated_iou_matrix(reference.xywhr[[pair.reference]], served.xywhr[[pair.served]])
        return min(pair.overlap, float(rotated[0]))
    mask = reference.unpack_mask(pair.reference)
    other = served.unpack_mask(pair.served)
    if mask is None or other is None:
        return pair.overlap
    return min(pair.overlap, float((mask & other).sum()) / max(float((mask | other).sum()), 1))


def _points_agree(reference: Detections, served: Detections, one: int, other: int) -> bool:
    """Whether the points that either side sees are near each other and equally visible; true if there are none."""
    if reference.keypoints is None or served.keypoints is None:
        return True
    points = reference.keypoints[one]
    others = served.keypoints[other]
    # Not `maximum`: a visibility that is no number must not hide a point that the other side sees.
    seen = np.fmax(points[:, 2], others[:, 2]) >= VISIBLE
    differences = points[seen] - others[seen]
    x1, y1, x2, y2 = reference.xyxy[one]
    near = np.hypot(differences[:, 0], differences[:, 1]) <= KEYPOINT_TOLERANCE * np.hypot(x2 - x1, y2 - y1)
    return bool((near & (np.abs(differences[:, 2]) <= VISIBILITY_TOLERANCE)).all())

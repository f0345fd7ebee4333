"""What a person has changed of the objects that a model suggested in an image, and how much drawing that was."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np

from tasks.importing.annotations import Box, Floats, Outline, Pose, RotatedBox, Shape, Tag
from tasks.vision.geometry import box_iou_matrix

SAME_PLACE = 1.0  # pixels, of each corner: what rounding on the way through a tool may do
LEAST_OVERLAP = 0.3  # below it, a label is no moved suggestion: it was drawn anew
_TIE = 0.1  # of overlap, by which a label of the same class goes first where two suggestions lie on one another
_RASTER = 256  # pixels of the longer side in which outlines are filled to compare them


class Change(StrEnum):
    """What became of a suggestion, or how a label came to be."""

    ACCEPTED = "accepted"
    MOVED = "moved"
    RECLASSED = "reclassed"  # in the same place; one that was moved as well had to be drawn
    ADDED = "added"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class ObjectChange:
    """One object of an image.

    Attributes:
        change: What happened to it.
        class_name: Of the label; of a deleted object, of the suggestion.
        suggestion: Its place among the suggestions, from 0; None if it was added.
        label: Its place among the labels, from 0; None if it was deleted.
        overlap: Intersection over union of suggestion and label, 0 to 1; 0 without one of them.
    """

    change: Change
    class_name: str
    suggestion: int | None
    label: int | None
    overlap: float


def compare_shapes(suggestions: Sequence[Shape], labels: Sequence[Shape]) -> list[ObjectChange]:
    """Return what happened to each suggestion and how each label came to be: labels in their order, then the deleted.

    Suggestions and labels belong together one to one, those that overlap most first.
    """
    overlaps = _overlaps(suggestions, labels)
    same = np.array([[one.class_name == other.class_name for other in labels] for one in suggestions], bool)
    pairs = _pair(overlaps, same.reshape(overlaps.shape))
    changes = []
    for place, label in enumerate(labels):
        found = pairs.get(place)
        changes.append(
            ObjectChange(
                change=Change.ADDED if found is None else _change(suggestions[found], label),
                class_name=label.class_name,
                suggestion=found,
                label=place,
                overlap=0.0 if found is None else float(overlaps[found, place]),
            )
        )
    kept = set(pairs.values())
    deleted = (
        ObjectChange(change=Change.DELETED, class_name=each.class_name, suggestion=place, label=None, overlap=0.0)
        for place, each in enumerate(suggestions)
        if place not in kept
    )
    return [*changes, *deleted]


@dataclass(kw_only=True)
class ReviewTotals:
    """What a person did in a round of images.

    Attributes:
        images: How many came back.
        untouched: Of how many each suggestion was accepted, and nothing was added.
        by_class: How often each change was made to objects of a class.
        moved_overlaps: Of each moved object, with its suggestion.
        seconds: Of each image for which the tool tells how long a person had it open.
    """

    images: int = 0
    untouched: int = 0
    by_class: dict[str, Counter[Change]] = field(default_factory=dict)
    moved_overlaps: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, changes: Iterable[ObjectChange], seconds: float | None) -> None:
        """Count an image, and the seconds that it took if they are known."""
        kinds = set()
        for each in changes:
            kinds.add(each.change)
            self.by_class.setdefault(each.class_name, Counter())[each.change] += 1
            if each.change is Change.MOVED:
                self.moved_overlaps.append(each.overlap)
        self.images += 1
        self.untouched += kinds <= {Change.ACCEPTED}
        if seconds is not None:
            self.seconds.append(seconds)

    @property
    def changes(self) -> Counter[Change]:
        """How often each change was made, over all classes."""
        return sum(self.by_class.values(), Counter[Change]())

    @property
    def drawn(self) -> int:
        """The objects that a person had to draw."""
        return count_drawn(self.changes)

    @property
    def labels(self) -> int:
        """The objects that there are now: so many a person would have drawn without suggestions."""
        return count_labels(self.changes)


def count_drawn(changes: Counter[Change]) -> int:
    """Return how many objects a person had to draw: added, or moved, as that takes about as long."""
    return changes[Change.ADDED] + changes[Change.MOVED]


def count_labels(changes: Counter[Change]) -> int:
    """Return how many objects there are after these changes."""
    return changes.total() - changes[Change.DELETED]


def _change(suggestion: Shape, label: Shape) -> Change:
    if not _lies_there(suggestion, label):
        return Change.MOVED
    return Change.ACCEPTED if suggestion.class_name == label.class_name else Change.RECLASSED


def _lies_there(one: Shape, other: Shape) -> bool:
    """Return whether each corner of one lies at a corner of the other, and each keypoint where it was."""
    if isinstance(one, Pose) and isinstance(other, Pose) and not _have_same_points(one.keypoints, other.keypoints):
        return False
    first, second = _corners(one), _corners(other)
    distances = np.abs(first[:, None] - second[None]).max(axis=2)
    return bool(max(distances.min(axis=0).max(), distances.min(axis=1).max()) <= SAME_PLACE)


def _have_same_points(one: Floats, other: Floats) -> bool:
    if len(one) != len(other) or ((one[:, 2] > 0) != (other[:, 2] > 0)).any():
        return False
    shown = one[:, 2] > 0
    return bool((np.abs(one[shown, :2] - other[shown, :2]) <= SAME_PLACE).all())


def _overlaps(suggestions: Sequence[Shape], labels: Sequence[Shape]) -> Floats:
    """Return the overlaps [n, m]: of boxes exactly, of other outlines as they are filled."""
    overlaps = np.asarray(box_iou_matrix(_bounds(suggestions), _bounds(labels)), np.float64)
    for row, column in np.argwhere(overlaps > 0).tolist():
        pair = suggestions[row], labels[column]
        if any(isinstance(each, RotatedBox | Outline) for each in pair):
            overlaps[row, column] = _filled_overlap(*map(_rings, pair))
    return overlaps


def _filled_overlap(first: Sequence[Floats], second: Sequence[Floats]) -> float:
    """Return the overlap of two sets of rings, of which one inside another is a hole."""
    corners = np.concatenate([*first, *second])
    low = corners.min(axis=0)
    scale = _RASTER / np.ptp(corners, axis=0).max()
    masks = np.zeros((2, _RASTER + 1, _RASTER + 1), np.uint8)
    for mask, rings in zip(masks, (first, second), strict=True):
        cv2.fillPoly(mask, [np.round((ring - low) * scale).astype(np.int32) for ring in rings], 1)
    return float(masks.min(axis=0).sum() / masks.max(axis=0).sum())


def _pair(overlaps: Floats, same_class: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> dict[int, int]:
    """Return the suggestion of each label that has one, by their places."""
    ranked = np.where(overlaps >= LEAST_OVERLAP, overlaps + _TIE * same_class, 0)
    pairs: dict[int, int] = {}
    while ranked.size and ranked.max() > 0:
        row, column = divmod(int(ranked.argmax()), ranked.shape[1])
        pairs[column] = row
        ranked[row] = 0
        ranked[:, column] = 0
    return pairs


def _bounds(shapes: Sequence[Shape]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the upright boxes [n, 4] round shapes."""
    corners = [_corners(shape) for shape in shapes]
    boxes = [np.concatenate([each.min(axis=0), each.max(axis=0)]) for each in corners]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _corners(shape: Shape) -> Floats:
    return np.concatenate(_rings(shape))


def _rings(shape: Shape) -> Sequence[Floats]:
    """Return the rings of a shape, (k, 2) each; a class of a whole image has always the same."""
    match shape:
        case Outline():
            return shape.rings
        case RotatedBox():
            return (shape.corners,)
        case Tag():
            left, top, right, bottom = 0.0, 0.0, 1.0, 1.0
        case Box() | Pose():
            left, top, right, bottom = shape.corners
    return (np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64),)

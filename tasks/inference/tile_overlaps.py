"""Which detections of different tiles overlap, and by how much."""

from dataclasses import dataclass, fields
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats, xywhr_to_corners

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class TileViews:
    """From where n detections were seen.

    `tile_boxes` [P, 4] are the tiles (left, top, right, bottom), `part` [n] says which of them saw a detection. `cut`
    [n] says whether its box ends where the tile does and the image does not. `extended_boxes` [n, 4] are the boxes,
    drawn out a `margin` [P] beyond each edge that cut them.
    """

    tile_boxes: Floats
    margin: Floats
    part: Rows
    cut: NDArray[np.bool_]
    extended_boxes: Floats

    @classmethod
    def of(cls, found: Detections, places: Floats, part: NDArray[Any]) -> Self:
        """Tell what is cut; `found` is in pixels of the image."""
        # A box of a cut object ends within a pixel or two, as the model sees them, of the edge.
        margin = np.maximum((places[:, 2:] - places[:, :2]).max(axis=1, initial=0) / 200, 2).astype(np.float32)
        edges, width = places[part], margin[part][:, None]
        inner = np.concatenate([edges[:, :2] > 0, edges[:, 2:] < [found.width, found.height]], axis=1)
        inside = np.array([1, 1, -1, -1], np.float32)
        cut = inner & ((found.xyxy - edges) * inside <= width)
        reach = np.where(cut, edges - inside * width, found.xyxy)
        return cls(places, margin, part.astype(np.intp), cut.any(axis=1), reach)


@dataclass(frozen=True, eq=False)
class OverlapPairs:
    """Two detections each, rows `first` < `second` [m], of one class and different tiles, that overlap or touch.

    All [m], from 0 to 1: `agreement` is the intersection over union of what both tiles show of the two, `iou` that of
    the two themselves, `first_covered` and `second_covered` the shares of their areas that they have in common.
    """

    first: Rows
    second: Rows
    agreement: Floats
    iou: Floats
    first_covered: Floats
    second_covered: Floats

    def select(self, rows: NDArray[np.bool_]) -> Self:
        """Return the pairs that `rows` [m] says."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


def find_overlaps(found: Detections, views: TileViews) -> OverlapPairs:
    """Compare the detections of tiles that overlap; `found` is in pixels of the image, tile after tile."""
    first, second = _touching(found, views)
    shown = _shared_view(views, first, second)
    if found.xywhr is None:
        agreement = _Areas.of_boxes(
            _common(views.extended_boxes[first], shown), _common(views.extended_boxes[second], shown)
        )
        areas = _Areas.of_boxes(found.xyxy[first], found.xyxy[second])
    else:
        agreement, areas = _turned(xywhr_to_corners(found.xywhr), first, second, shown)
    covered = areas.share(areas.first), areas.share(areas.second)
    return OverlapPairs(first, second, agreement.share(agreement.union), areas.share(areas.union), *covered)


def _touching(found: Detections, views: TileViews) -> tuple[Rows, Rows]:
    """Return the pairs of rows whose boxes, drawn out where they are cut, overlap."""
    firsts, seconds = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    reach = views.extended_boxes
    bounds = np.searchsorted(views.part, np.arange(len(views.tile_boxes) + 1))
    for part in np.unique(views.part):
        own = np.arange(bounds[part], bounds[part + 1])
        low, high = reach[own, :2].min(axis=0), reach[own, 2:].max(axis=0)
        others = np.arange(bounds[part + 1], len(found))
        others = others[((reach[others, :2] < high) & (reach[others, 2:] > low)).all(axis=1)]
        low = np.maximum(reach[own, None, :2], reach[None, others, :2])
        high = np.minimum(reach[own, None, 2:], reach[None, others, 2:])
        near = (low < high).all(axis=2) & (found.class_id[own, None] == found.class_id[None, others])
        one, other = np.nonzero(near)
        firsts.append(own[one])
        seconds.append(others[other])
    return np.concatenate(firsts), np.concatenate(seconds)


def _shared_view(views: TileViews, first: Rows, second: Rows) -> Floats:
    """Return the rectangles [m, 4] that both tiles of a pair show; of tiles side by side, a strip along the edge."""
    one, other = views.part[first], views.part[second]
    shown = _common(views.tile_boxes[one], views.tile_boxes[other])
    margin = np.maximum(views.margin[one], views.margin[other])[:, None]
    thin = shown[:, 2:] - shown[:, :2] < margin
    grow = np.where(thin, margin, 0)
    return np.asarray(np.concatenate([shown[:, :2] - grow, shown[:, 2:] + grow], axis=1), np.float32)


def _common(boxes: Floats, others: Floats) -> Floats:
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    return np.concatenate([low, high], axis=1)


@dataclass(frozen=True, eq=False)
class _Areas:
    """Areas [m] of two shapes each and of what they have in common."""

    first: Floats
    second: Floats
    both: Floats

    @classmethod
    def of_boxes(cls, boxes: Floats, others: Floats) -> Self:
        sides = (np.clip(each[:, 2:] - each[:, :2], 0, None) for each in (boxes, others, _common(boxes, others)))
        return cls(*(each.prod(axis=1) for each in sides))

    @property
    def union(self) -> Floats:
        return self.first + self.second - self.both

    def share(self, total: Floats) -> Floats:
        return np.divide(self.both, total, out=np.zeros_like(self.both), where=total > 0)


def _turned(rings: Floats, first: Rows, second: Rows, shown: Floats) -> tuple[_Areas, _Areas]:
    """Return the areas of pairs of turned boxes (`rings` [n, 4, 2]) within what both tiles show, and at all."""
    views = shown[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    rows = np.zeros((2, 3, len(first)), np.float32)
    for index, (one, other, view) in enumerate(zip(rings[first], rings[second], views, strict=True)):
        area, seen = cv2.intersectConvexConvex(one, view)
        other_area, other_seen = cv2.intersectConvexConvex(other, view)
        both = cv2.intersectConvexConvex(seen, other_seen)[0] if area > 0 and other_area > 0 else 0.0
        rows[0, :, index] = area, other_area, both
        rows[1, :, index] = cv2.contourArea(one), cv2.contourArea(other), cv2.intersectConvexConvex(one, other)[0]
    return _Areas(*rows[0]), _Areas(*rows[1])

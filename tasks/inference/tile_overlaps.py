"""The overlaps between detections of different tiles."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats, Rows, shared_areas, xywhr_to_corners


@dataclass(frozen=True, eq=False, kw_only=True)
class TileViews:
    """The tiles of n detections.

    Attributes:
        tile_boxes: [P, 4], left, top, right, bottom of each tile.
        margin: [P], the pixels by which a box is extended.
        part: [n], the tile of each detection.
        cut: [n], whether its box ends at an edge of the tile that is none of the image.
        extended_boxes: [n, 4], the boxes, extended by the margin beyond each edge that cuts them.
    """

    tile_boxes: Floats
    margin: Floats
    part: Rows
    cut: NDArray[np.bool_]
    extended_boxes: Floats

    @classmethod
    def of(cls, detections: Detections, tile_boxes: Floats, part: NDArray[Any]) -> Self:
        """Return the views of `detections`, which are in pixels of the image."""
        # A box of a cut object ends within a pixel or two, as the model sees them, of the edge.
        margin = np.maximum((tile_boxes[:, 2:] - tile_boxes[:, :2]).max(axis=1, initial=0) / 200, 2)
        margin = margin.astype(np.float32)
        edges = tile_boxes[part]
        width = margin[part][:, None]
        inner = np.concatenate([edges[:, :2] > 0, edges[:, 2:] < [detections.width, detections.height]], axis=1)
        inside = np.array([1, 1, -1, -1], np.float32)
        cut = inner & ((detections.xyxy - edges) * inside <= width)
        return cls(
            tile_boxes=tile_boxes,
            margin=margin,
            part=part.astype(np.intp),
            cut=cut.any(axis=1),
            extended_boxes=np.where(cut, edges - inside * width, detections.xyxy),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
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
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})


def find_overlaps(detections: Detections, views: TileViews) -> OverlapPairs:
    """Compare the detections of tiles that overlap; they are in pixels of the image, tile after tile."""
    first, second = _touching_pairs(detections, views)
    shown = _shared_view(views, first, second)
    if detections.xywhr is None:
        boxes = views.extended_boxes
        visible = _box_areas(_intersection(boxes[first], shown), _intersection(boxes[second], shown))
        areas = _box_areas(detections.xyxy[first], detections.xyxy[second])
    else:
        visible, areas = _rotated_areas(xywhr_to_corners(detections.xywhr), first, second, shown)
    return OverlapPairs(
        first=first,
        second=second,
        agreement=_iou(visible),
        iou=_iou(areas),
        first_covered=_share(areas[2], areas[0]),
        second_covered=_share(areas[2], areas[1]),
    )


def _touching_pairs(detections: Detections, views: TileViews) -> tuple[Rows, Rows]:
    """Return the pairs of rows whose extended boxes overlap."""
    firsts = [np.zeros(0, np.intp)]
    seconds = [np.zeros(0, np.intp)]
    boxes = views.extended_boxes
    bounds = np.searchsorted(views.part, np.arange(len(views.tile_boxes) + 1))
    for part in np.unique(views.part):
        own = np.arange(bounds[part], bounds[part + 1])
        low, high = boxes[own, :2].min(axis=0), boxes[own, 2:].max(axis=0)
        others = np.arange(bounds[part + 1], len(detections))
        others = others[((boxes[others, :2] < high) & (boxes[others, 2:] > low)).all(axis=1)]
        low = np.maximum(boxes[own, None, :2], boxes[None, others, :2])
        high = np.minimum(boxes[own, None, 2:], boxes[None, others, 2:])
        same_class = detections.class_id[own, None] == detections.class_id[None, others]
        one, other = np.nonzero((low < high).all(axis=2) & same_class)
        firsts.append(own[one])
        seconds.append(others[other])
    return np.concatenate(firsts), np.concatenate(seconds)


def _shared_view(views: TileViews, first: Rows, second: Rows) -> Floats:
    """Return the rectangles [m, 4] that both tiles of a pair show; of tiles side by side, a strip along the edge."""
    one = views.part[first]
    other = views.part[second]
    shown = _intersection(views.tile_boxes[one], views.tile_boxes[other])
    margin = np.maximum(views.margin[one], views.margin[other])[:, None]
    grow = np.where(shown[:, 2:] - shown[:, :2] < margin, margin, 0)
    return np.asarray(np.concatenate([shown[:, :2] - grow, shown[:, 2:] + grow], axis=1), np.float32)


def _intersection(boxes: Floats, others: Floats) -> Floats:
    return np.concatenate([np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])], axis=1)


def _box_areas(boxes: Floats, others: Floats) -> Floats:
    """Return [3, m]: the areas of both boxes of each pair, and of their intersection."""
    sides = (np.clip(each[:, 2:] - each[:, :2], 0, None) for each in (boxes, others, _intersection(boxes, others)))
    return np.stack([each.prod(axis=1) for each in sides])


def _rotated_areas(corners: Floats, first: Rows, second: Rows, shown: Floats) -> tuple[Floats, Floats]:
    """Return the same of rotated boxes (`corners` [n, 4, 2]): of their parts in what both tiles show, and of all."""
    views = shown[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    one, other = corners[first], corners[second]
    seen = shared_areas(np.concatenate([one, other]), np.concatenate([views, views])).reshape(2, -1)
    visible = *seen, shared_areas(one, other, views)
    areas = shared_areas(one), shared_areas(other), shared_areas(one, other)
    return np.array(visible, np.float32), np.array(areas, np.float32)


def _iou(areas: Floats) -> Floats:
    return _share(areas[2], areas[0] + areas[1] - areas[2])


def _share(part: Floats, total: Floats) -> Floats:
    return np.divide(part, total, out=np.zeros_like(part), where=total > 0)

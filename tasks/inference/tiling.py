"""Tiles of a large image, and their detections as those of the image (after SAHI's sliced inference).

Each object comes out once, and no object that a single tile sees is lost. Three cases, class by class:

- Two tiles see one object: in what both of them show, their boxes agree. The best of these detections stays, a whole
  one rather than one that a tile cut. Two detections of one tile are never made one.
- A tile sees a piece of what another one sees more of: the piece goes, whatever its confidence.
- Other overlaps: the one of higher confidence stays if the smaller is covered by more than half.

Tiles without overlap show nothing twice: there two pieces that meet at the edge, at the same height, are one object.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.disjoint_sets import DisjointSets
from tasks.errors import StudioError
from tasks.inference.tile_overlaps import OverlapPairs, TileViews, find_overlaps
from tasks.vision.detections import Detections

MAX_TILES = 2000
_AGREED = 0.5  # overlap of two boxes, in what both tiles show, that makes them one object
_COVERED = 0.5  # share of the smaller box that lies in the larger


class TileError(StudioError):
    """An image takes too many tiles; the message says what to change."""


class Tile(NamedTuple):
    """A rectangle of an image, in its pixels; `right` and `bottom` are the first column and row outside of it."""

    left: int
    top: int
    right: int
    bottom: int


def tile_grid(width: int, height: int, side: int, overlap: float) -> list[Tile]:
    """Return the tiles that cover an image of `width` x `height` pixels, row by row.

    Tiles are `side` pixels wide and high, or as the image if that is less. Neighbours share `overlap` (0 to below 1) of
    a side; the last of a row or column is moved inwards and shares more.

    Raises:
        TileError: There would be more than `MAX_TILES`.
        ValueError: A side is below 1, or the overlap is not from 0 to below 1.
    """
    if min(width, height, side) < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f"expected sides of at least 1 pixel and an overlap from 0 to below 1, found an image of {width}x{height}, "
            f"tiles of {side} and an overlap of {overlap}; leave empty images out"
        )
    step = max(round(side * (1 - overlap)), 1)
    columns, rows = (1 + math.ceil(max(length - side, 0) / step) for length in (width, height))
    if columns * rows > MAX_TILES:
        raise TileError(
            f"expected an image of at most {MAX_TILES:,} tiles, found one of {width} x {height} pixels that takes "
            f"{columns * rows:,} of {side} pixels; choose larger tiles (tiles.size) or a smaller tiles.overlap"
        )
    lefts = _starts(width, side, step, columns)
    tops = _starts(height, side, step, rows)
    return [Tile(left, top, min(left + side, width), min(top + side, height)) for top in tops for left in lefts]


def merge_tile_detections(parts: Sequence[tuple[Tile, Detections]], whole: Detections | None, iou: float) -> Detections:
    """Return the detections of one image from those of its tiles and, if given, of the `whole` image, best first.

    `parts` are all tiles of the image, each with its detections in pixels of the tile; `whole` is in pixels of the
    image. Detections of one tile are never compared: the NMS has decided there. Of two of a class from different tiles
    that overlap by more than `iou`, one stays. Rotated boxes are compared as they lie, masks by their boxes.

    Raises:
        ValueError: There is neither a part nor a whole.
    """
    if not parts and whole is None:
        raise ValueError("expected the detections of a tile or of the whole image, found neither; ask the model first")
    width = whole.width if whole else max(tile.right for tile, _ in parts)
    height = whole.height if whole else max(tile.bottom for tile, _ in parts)
    views = [*parts, (Tile(0, 0, width, height), whole)] if whole else list(parts)
    detections = _concatenated([_shift_to_image(each, tile, width, height) for tile, each in views])
    tile_boxes = np.array([tile for tile, _ in views], np.float32)
    tiles = TileViews.of(detections, tile_boxes, np.repeat(np.arange(len(views)), [len(each) for _, each in views]))
    pairs = find_overlaps(detections, tiles)
    objects = _group_same_objects(detections, tiles, pairs)
    return detections.select(_suppress_across_tiles(detections, tiles, pairs, objects, iou))


def _starts(length: int, side: int, step: int, count: int) -> list[int]:
    return [min(index * step, max(length - side, 0)) for index in range(count)]


def _shift_to_image(detections: Detections, tile: Tile, width: int, height: int) -> Detections:
    """Return the same detections in pixels of the image of `width` x `height`."""
    offset = np.array([tile.left, tile.top], np.float32)
    points = detections.keypoints
    rotated = detections.xywhr
    return replace(
        detections,
        width=width,
        height=height,
        xyxy=detections.xyxy + np.tile(offset, 2),
        polygons=None if detections.polygons is None else tuple(ring + offset for ring in detections.polygons),
        keypoints=None if points is None else np.concatenate([points[..., :2] + offset, points[..., 2:]], axis=-1),
        xywhr=None if rotated is None else np.concatenate([rotated[:, :2] + offset, rotated[:, 2:]], axis=1),
    )


def _concatenated(parts: Sequence[Detections]) -> Detections:
    """Return all detections as one value; a field that is None in the first is None in all."""
    first = parts[0]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in parts])
        for name in ("xyxy", "confidence", "class_id", "keypoints", "xywhr")
        if getattr(first, name) is not None
    }
    polygons = None if first.polygons is None else tuple(ring for each in parts for ring in each.polygons or ())
    return replace(first, **arrays, polygons=polygons, tracker_id=None)


def _group_same_objects(detections: Detections, views: TileViews, pairs: OverlapPairs) -> dict[int, set[int]]:
    """Return the row that represents each object, and its tiles: detections that agree are one object."""
    same = pairs.select(pairs.agreement > _AGREED)
    order = np.lexsort((same.second, same.first, -same.agreement))
    sets = DisjointSets(range(len(detections)))
    tiles_of = [{part} for part in views.part.tolist()]
    areas = (detections.xyxy[:, 2:] - detections.xyxy[:, :2]).prod(axis=1)
    # Of pieces the largest says most about the object, whatever the confidences.
    values = np.where(views.cut, areas, detections.confidence).tolist()
    rank = [(not cut, value, -row) for row, (cut, value) in enumerate(zip(views.cut.tolist(), values, strict=True))]
    for first, second in zip(same.first[order].tolist(), same.second[order].tolist(), strict=True):
        one = sets.root(first)
        other = sets.root(second)
        if one != other and tiles_of[one].isdisjoint(tiles_of[other]):
            best, rest = (one, other) if rank[one] > rank[other] else (other, one)
            sets.join(rest, best)
            tiles_of[best] |= tiles_of[rest]
    return {row: tiles for row, tiles in enumerate(tiles_of) if sets.root(row) == row}


def _suppress_across_tiles(
    detections: Detections, views: TileViews, pairs: OverlapPairs, objects: dict[int, set[int]], iou: float
) -> NDArray[np.intp]:
    """Return the rows of `objects` that stay, best first: chosen by confidence, pieces of larger ones after others."""
    rows = np.array(sorted(objects), np.intp)
    is_object = np.zeros(len(detections), np.bool_)
    is_object[rows] = True
    pairs = pairs.select(is_object[pairs.first] & is_object[pairs.second])
    covered = np.maximum(pairs.first_covered, pairs.second_covered) > _COVERED
    smaller = np.where(pairs.first_covered > pairs.second_covered, pairs.first, pairs.second)
    has_piece = covered & views.cut[smaller]
    is_piece = np.zeros(len(detections), np.bool_)
    is_piece[smaller[has_piece]] = True
    rivals = defaultdict[int, list[int]](list)
    for index in np.flatnonzero(covered | (pairs.iou > iou)).tolist():
        first = int(pairs.first[index])
        second = int(pairs.second[index])
        # Two detections of one tile are two objects: its NMS has said so.
        if has_piece[index] or objects[first].isdisjoint(objects[second]):
            rivals[first].append(second)
            rivals[second].append(first)
    kept = np.zeros(len(detections), np.bool_)
    for row in rows[np.lexsort((rows, -detections.confidence[rows], is_piece[rows]))].tolist():
        kept[row] = not kept[rivals[row]].any()
    rows = rows[kept[rows]]
    return rows[np.argsort(-detections.confidence[rows], kind="stable")]

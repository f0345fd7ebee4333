"""Tiles of a large image, and what was found in them as what is in the image (after SAHI's sliced inference).

Each object is to come out once, and none that a single tile sees is to be lost. Three cases, class by class:

- Two tiles see one object. In what both of them show, their boxes agree: these detections are one, and the best of them
  stays, a whole one rather than one that a tile cut off. Objects that one tile tells apart are never made one.
- A tile sees a piece of what another one sees more of: the piece goes, however sure the model is of it.
- What overlaps otherwise: the surer one stays where the smaller is covered by more than half.

Tiles without overlap show nothing twice: there two pieces that meet at the edge, at the same height, are one object.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.disjoint_sets import DisjointSets
from tasks.errors import StudioError
from tasks.inference.tile_overlaps import OverlapPairs, TileViews, find_overlaps
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

MAX_TILES = 2000
_AGREED = 0.5  # overlap of two boxes, in what both tiles show, that makes them one object
_COVERED = 0.5  # share of the smaller box that lies in the larger


class TileError(StudioError):
    """An image takes too many tiles; the message says what to change."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, in its pixels; `right` and `bottom` are the first column and row that are outside."""

    left: int
    top: int
    right: int
    bottom: int


def tile_grid(width: int, height: int, side: int, overlap: float) -> list[Tile]:
    """Return the tiles that cover an image of `width` x `height` pixels, row by row.

    All are `side` pixels wide and high, or as the image where that is less. Neighbours share `overlap` (0 to below 1)
    of a side; the last of a row or column is moved inwards and shares more. Raises TileError beyond `MAX_TILES`, and
    ValueError for sides below 1 or another overlap.
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
    lefts, tops = _starts(width, side, step, columns), _starts(height, side, step, rows)
    return [Tile(left, top, min(left + side, width), min(top + side, height)) for top in tops for left in lefts]


def merge_tile_detections(parts: Sequence[tuple[Tile, Detections]], whole: Detections | None, iou: float) -> Detections:
    """Return what the tiles of one image, and the model's look at all of it, found together, best first.

    `parts` are all tiles of the image, each with its detections in pixels of the tile; `whole` is in pixels of the
    image, None where it was not asked for. Detections of one tile are never compared: the NMS has decided there. Of two
    of a class from different tiles one stays where they overlap by more than `iou`, too. Rotated boxes are compared as
    they lie, masks by their boxes. Raises ValueError where there is neither a part nor a whole.
    """
    if not parts and whole is None:
        raise ValueError("expected the detections of a tile or of the whole image, found neither; ask the model first")
    width = whole.width if whole else max(tile.right for tile, _ in parts)
    height = whole.height if whole else max(tile.bottom for tile, _ in parts)
    seen = [*parts, (Tile(0, 0, width, height), whole)] if whole else list(parts)
    found = _join_groups([_shift_to_image(each, tile, width, height) for tile, each in seen])
    places = np.array([(tile.left, tile.top, tile.right, tile.bottom) for tile, _ in seen], np.float32)
    views = TileViews.of(found, places, np.repeat(np.arange(len(seen)), [len(each) for _, each in seen]))
    pairs = find_overlaps(found, views)
    objects = _group_same_objects(found, views, pairs)
    return found.select(_suppress_across_tiles(found, views, pairs, objects, iou))


def _starts(length: int, side: int, step: int, count: int) -> list[int]:
    return [min(index * step, max(length - side, 0)) for index in range(count)]


def _shift_to_image(found: Detections, tile: Tile, width: int, height: int) -> Detections:
    """The same detections in pixels of the image of `width` x `height`."""
    offset = np.array([tile.left, tile.top], np.float32)
    points, rotated = found.keypoints, found.xywhr
    return replace(
        found,
        width=width,
        height=height,
        xyxy=found.xyxy + np.tile(offset, 2),
        polygons=None if found.polygons is None else tuple(ring + offset for ring in found.polygons),
        keypoints=None if points is None else np.concatenate([points[..., :2] + offset, points[..., 2:]], axis=-1),
        xywhr=None if rotated is None else np.concatenate([rotated[:, :2] + offset, rotated[:, 2:]], axis=1),
    )


def _join_groups(found: Sequence[Detections]) -> Detections:
    """All detections in one value; what the first one lacks, all lack."""
    first = found[0]
    return replace(
        first,
        xyxy=np.concatenate([each.xyxy for each in found]),
        confidence=np.concatenate([each.confidence for each in found]),
        class_id=np.concatenate([each.class_id for each in found]),
        polygons=None if first.polygons is None else tuple(ring for each in found for ring in each.polygons or ()),
        keypoints=_stack([each.keypoints for each in found]),
        xywhr=_stack([each.xywhr for each in found]),
        tracker_id=None,
    )


def _stack(arrays: Sequence[Floats | None]) -> Floats | None:
    given = [array for array in arrays if array is not None]
    return np.concatenate(given) if given else None


def _group_same_objects(found: Detections, views: TileViews, pairs: OverlapPairs) -> dict[int, set[int]]:
    """Return the row that stands for each object, and the tiles that saw it: those that agree are one object."""
    same = pairs.select(pairs.agreement > _AGREED)
    order = np.lexsort((same.second, same.first, -same.agreement))
    sets = DisjointSets(range(len(found)))
    tiles_of = [{part} for part in views.part.tolist()]
    areas = (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(axis=1)
    # Of pieces the largest says most about the object, however sure the model is of another.
    worth = np.where(views.cut, areas, found.confidence).tolist()
    rank = [(not cut, value, -row) for row, (cut, value) in enumerate(zip(views.cut.tolist(), worth, strict=True))]
    for first, second in zip(same.first[order].tolist(), same.second[order].tolist(), strict=True):
        one, other = sets.root(first), sets.root(second)
        if one != other and tiles_of[one].isdisjoint(tiles_of[other]):
            best, rest = (one, other) if rank[one] > rank[other] else (other, one)
            sets.join(rest, best)
            tiles_of[best] |= tiles_of[rest]
    return {row: tiles for row, tiles in enumerate(tiles_of) if sets.root(row) == row}


def _suppress_across_tiles(
    found: Detections, views: TileViews, pairs: OverlapPairs, objects: dict[int, set[int]], iou: float
) -> NDArray[np.intp]:
    """Return the rows of `objects` that stay, best first: chosen by confidence, pieces of larger ones after others."""
    rows = np.array(sorted(objects), np.intp)
    stands = np.zeros(len(found), np.bool_)
    stands[rows] = True
    pairs = pairs.select(stands[pairs.first] & stands[pairs.second])
    covered = np.maximum(pairs.first_covered, pairs.second_covered) > _COVERED
    smaller = np.where(pairs.first_covered > pairs.second_covered, pairs.first, pairs.second)
    piece = covered & views.cut[smaller]
    last = np.zeros(len(found), np.bool_)
    last[smaller[piece]] = True
    rivals: dict[int, list[int]] = {}
    for index in np.flatnonzero(covered | (pairs.iou > iou)).tolist():
        first, second = int(pairs.first[index]), int(pairs.second[index])
        if piece[index] or objects[first].isdisjoint(objects[second]):  # else a tile told the two apart
            rivals.setdefault(first, []).append(second)
            rivals.setdefault(second, []).append(first)
    kept = np.zeros(len(found), np.bool_)
    for row in rows[np.lexsort((rows, -found.confidence[rows], last[rows]))].tolist():
        kept[row] = not kept[rivals.get(row, [])].any()
    rows = rows[kept[rows]]
    return rows[np.argsort(-found.confidence[rows], kind="stable")]

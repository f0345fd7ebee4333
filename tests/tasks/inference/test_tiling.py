"""Objects in tiles: each comes out once, none that a single tile sees is lost."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.inference.tile_overlaps import TileViews, find_overlaps
from tasks.inference.tiling import MAX_TILES, Tile, TileError, merge_tile_detections, tile_grid
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats, enclosing_boxes, xywhr_to_corners
from tests.benchmarks.small_objects import HEIGHT, IMAGE_SIZE, WIDTH, draw_scene, see_perfectly

LEFT, RIGHT = Tile(0, 0, 100, 100), Tile(80, 0, 180, 100)  # of an image of 180 x 100 pixels


def found(*rows: Any, size: tuple[int, int] = (100, 100), **own: Any) -> Detections:
    """Detections of rows (x1, y1, x2, y2, confidence, class)."""
    array = np.reshape(np.array(rows, np.float32), (-1, 6))
    return Detections(
        width=size[0],
        height=size[1],
        xyxy=array[:, :4],
        confidence=array[:, 4],
        class_id=array[:, 5].astype(np.int32),
        source="a.jpg",
        **own,
    )


def turned(*rows: Any, size: tuple[int, int] = (100, 100)) -> Detections:
    """Detections of rows (centre x, y, width, height, angle, confidence)."""
    array = np.reshape(np.array(rows, np.float32), (-1, 6))
    ring = xywhr_to_corners(array[:, :5])
    boxes = np.column_stack([enclosing_boxes(array[:, :5]), array[:, 5], np.zeros(len(array))]).tolist()
    return found(*boxes, size=size, xywhr=array[:, :5], polygons=tuple(ring))


def together(left: Detections, right: Detections, whole: Detections | None = None) -> list[list[float]]:
    boxes = merge_tile_detections([(LEFT, left), (RIGHT, right)], whole, 0.7).xyxy
    return [[float(side) for side in box] for box in boxes]


@given(st.integers(1, 700), st.integers(1, 700), st.integers(100, 300), st.floats(0, 0.8))
def test_tiles_cover_every_pixel_and_are_all_of_one_size(width: int, height: int, side: int, overlap: float) -> None:
    covered = np.zeros((height, width), np.bool_)
    places = tile_grid(width, height, side, overlap)
    for tile in places:
        covered[tile.top : tile.bottom, tile.left : tile.right] = True
        assert (tile.right - tile.left, tile.bottom - tile.top) == (min(side, width), min(side, height))
        assert min(tile.left, tile.top) >= 0
        assert (tile.right <= width, tile.bottom <= height) == (True, True)
    assert covered.all()
    assert len(set(places)) == len(places)


def test_a_small_image_is_one_tile_and_the_last_tile_moves_inwards() -> None:
    assert tile_grid(640, 200, 640, 0.2) == [Tile(0, 0, 640, 200)]
    assert tile_grid(700, 200, 640, 0.2) == [Tile(0, 0, 640, 200), Tile(60, 0, 700, 200)]
    assert len(tile_grid(10_000, 10_000, 640, 0.2)) == 400


def test_too_many_tiles_are_refused_with_what_to_change() -> None:
    with pytest.raises(TileError, match=rf"at most {MAX_TILES:,} tiles, found .* 2,304 of 640 .*larger tiles"):
        tile_grid(24_640, 24_640, 640, 0.2)
    with pytest.raises(TileError):
        tile_grid(10**12, 10**12, 640, 0.2)
    with pytest.raises(ValueError, match="from 0 to below 1"):
        tile_grid(10, 10, 5, 1.0)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[tuple[int, int, int, int]], float, bool]:
    """Objects that do not overlap, from a fifth of a tile of 100 pixels to four of them."""
    columns, rows = (draw(st.lists(st.integers(20, 400), min_size=1, max_size=5)) for _ in range(2))
    x, y = np.cumsum([0, *columns]).tolist(), np.cumsum([0, *rows]).tolist()
    cells = [
        (x[i] + 3, y[j] + 3, x[i + 1] - 3, y[j + 1] - 3)
        for i in range(len(columns))
        for j in range(len(rows))
        if draw(st.integers(0, 3))
    ]
    return cells, draw(st.sampled_from([0.0, 0.1, 0.2, 0.5])), draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(scenes(), st.randoms(use_true_random=False))
def test_every_object_comes_out_once_however_many_tiles_see_it(scene: Any, random: Any) -> None:
    objects, overlap, look_at_all = scene
    if not objects:
        return
    width, height = (max(each[axis] for each in objects) + 2 for axis in (2, 3))
    classes = [random.randrange(2) for _ in objects]
    parts = []
    for tile in tile_grid(width, height, 100, overlap):
        pieces = [
            (max(x1, tile.left), max(y1, tile.top), min(x2, tile.right), min(y2, tile.bottom), random.random(), number)
            for (x1, y1, x2, y2), number in zip(objects, classes, strict=True)
        ]
        shift = (tile.left, tile.top, tile.left, tile.top, 0, 0)
        rows = [np.subtract(piece, shift) for piece in pieces if piece[2] - piece[0] > 3 and piece[3] - piece[1] > 3]
        parts.append((tile, found(*rows, size=(tile.right - tile.left, tile.bottom - tile.top))))
    rows = [np.array([*each, random.random(), number]) for each, number in zip(objects, classes, strict=True)]
    whole = found(*rows, size=(width, height)) if look_at_all else None
    result = merge_tile_detections(parts, whole, 0.7)
    assert len(result) == len(objects)
    assert (np.diff(result.confidence) <= 0).all()
    for (x1, y1, x2, y2), number in zip(objects, classes, strict=True):
        low, high = np.maximum(result.xyxy[:, :2], [x1, y1]), np.minimum(result.xyxy[:, 2:], [x2, y2])
        (row,) = np.flatnonzero((low < high).all(axis=1))
        assert result.class_id[row] == number
        seen_whole = any(
            t.left + 2 < x1 and x2 < t.right - 2 and t.top + 2 < y1 and y2 < t.bottom - 2 for t, _ in parts
        )
        if look_at_all or seen_whole:
            assert result.xyxy[row].tolist() == [x1, y1, x2, y2]


@pytest.mark.parametrize("overlap", [0.2, 0.4])
def test_in_rows_and_crowds_every_object_comes_out_once(overlap: float) -> None:
    """By the rules of other slicers some are lost or doubled (bench_tiles.py)."""
    scene = draw_scene(0)
    parts = [(tile, see_perfectly(scene, tile)) for tile in tile_grid(WIDTH, HEIGHT, IMAGE_SIZE, overlap)]
    result = merge_tile_detections(parts, see_perfectly(scene, Tile(0, 0, WIDTH, HEIGHT)), 0.7)
    assert sorted(result.xyxy.tolist()) == sorted(scene.xyxy.tolist())


def test_a_whole_object_beats_its_surer_piece() -> None:
    assert together(found([70, 20, 95, 60, 0.6, 0]), found([0, 20, 15, 60, 0.9, 0])) == [[70, 20, 95, 60]]


def test_of_two_halves_the_larger_stays_unless_the_whole_image_says_more() -> None:
    halves = found([40, 20, 100, 60, 0.5, 0]), found([0, 20, 30, 60, 0.9, 0])
    assert together(*halves) == [[40, 20, 100, 60]]
    assert together(*halves, found([41, 21, 109, 60, 0.3, 0], size=(180, 100))) == [[41, 21, 109, 60]]


def test_objects_of_two_classes_or_of_one_tile_stay_apart() -> None:
    assert len(together(found([80, 20, 95, 60, 0.6, 0]), found([0, 20, 15, 60, 0.9, 1]))) == 2
    crowd = found([84, 20, 93, 60, 0.6, 0], [86, 20, 95, 60, 0.9, 0])
    other = found([4, 20, 13, 60, 0.8, 0], [6, 20, 15, 60, 0.7, 0])
    assert sorted(together(crowd, other)) == [[84, 20, 93, 60], [86, 20, 95, 60]]


def test_a_small_object_before_a_large_one_stays_if_a_tile_saw_both() -> None:
    left = found([50, 5, 97, 95, 0.5, 0], [84, 40, 92, 50, 0.7, 0])
    assert len(together(left, found([4, 40, 12, 50, 0.9, 0]))) == 2


def test_what_overlaps_otherwise_is_decided_by_confidence() -> None:
    """A heap that the whole image takes for one object, and the objects that tiles see in it."""
    heap = found([10, 10, 60, 30, 0.4, 0], size=(180, 100))
    singles = found([10, 10, 34, 30, 0.8, 0], [36, 10, 60, 30, 0.7, 0])
    assert together(singles, found(), heap) == [[10, 10, 34, 30], [36, 10, 60, 30]]
    assert together(singles, found(), replace(heap, confidence=np.array([0.9], np.float32))) == [[10, 10, 60, 30]]


@pytest.mark.parametrize(("left", "kept"), [(28, 1), (34, 2)])
def test_of_two_objects_both_stay_if_less_than_half_of_the_smaller_is_covered(left: int, kept: int) -> None:
    one, other = found([left, 10, left + 40, 30, 0.9, 0]), found([10, 10, 50, 30, 0.4, 0], size=(180, 100))
    assert len(together(one, found(), other)) == kept


def test_a_small_piece_goes_whatever_its_confidence() -> None:
    """The part that a tile saw is so small that nothing says that it is the same object."""
    truck = [84, 5, 170, 95]
    assert together(found([84, 40, 100, 50, 0.9, 0]), found([4, 5, 90, 95, 0.5, 0])) == [truck]


def test_of_two_pieces_of_one_tile_both_go_if_the_whole_is_known() -> None:
    pieces = found([70, 20, 100, 60, 0.5, 0], [80, 20, 100, 60, 0.9, 0])
    assert together(pieces, found(), found([70, 20, 120, 60, 0.3, 0], size=(180, 100))) == [[70, 20, 120, 60]]


@pytest.mark.parametrize(("angle", "apart", "shared"), [(0.5, 3, 78), (0.5, 5, 66), (0.2, 2, 84), (0.8, 0, 96)])
def test_rotated_boxes_with_edges_on_one_line_overlap_exactly(angle: float, apart: float, shared: float) -> None:
    """OpenCV's `intersectConvexConvex` finds 35, 29 and 96 in the first three."""
    moved = (50 + apart * math.cos(angle), 50 + apart * math.sin(angle))
    both = turned((50, 50, 16, 6, angle, 0.9), (*moved, 16, 6, angle, 0.8))
    tiles = TileViews.of(both, np.array([[0, 0, 100, 100]] * 2, np.float32), np.arange(2))
    pairs = find_overlaps(both, tiles)
    assert [*pairs.iou, *pairs.agreement] == pytest.approx([shared / (192 - shared)] * 2, abs=1e-4)


def test_rotated_boxes_are_compared_as_they_lie() -> None:
    """Ships side by side across the view: their hulls cover one another, they do not."""
    ships = [(50.0, 50.0, 60.0, 6.0, math.pi / 4, 0.9), (58.0, 42.0, 60.0, 6.0, math.pi / 4, 0.8)]
    views = [(LEFT, turned(ships[0])), (Tile(0, 0, 180, 100), turned(*ships, size=(180, 100)))]
    result = merge_tile_detections(views, None, 0.7)
    assert len(result) == 2
    assert result.xywhr is not None
    assert result.xywhr[:, :2].tolist() == [[50, 50], [58, 42]]


def test_everything_moves_with_its_box() -> None:
    ring: Floats = np.array([[1, 2], [3, 4], [5, 2]], np.float32)
    own: Any = {"polygons": (ring,), "keypoints": np.array([[[7, 8, 0.5]]], np.float32)}
    result = merge_tile_detections(
        [
            (LEFT, found(polygons=(), keypoints=np.zeros((0, 1, 3), np.float32))),
            (RIGHT, found([10, 20, 30, 40, 0.9, 2], **own)),
        ],
        None,
        0.7,
    )
    assert result.xyxy.tolist() == [[90, 20, 110, 40]]
    assert result.polygons is not None
    assert result.polygons[0].tolist() == [[81, 2], [83, 4], [85, 2]]
    assert result.keypoints is not None
    assert result.keypoints.tolist() == [[[87, 8, 0.5]]]
    assert (result.width, result.height) == (180, 100)
    assert turned((50, 50, 20, 10, 0.3, 0.9)).xywhr is not None
    moved = merge_tile_detections([(RIGHT, turned((50, 50, 20, 10, 0.3, 0.9)))], None, 0.7)
    assert moved.xywhr is not None
    assert moved.xywhr.tolist() == [pytest.approx([130, 50, 20, 10, 0.3])]


def test_no_detections_are_no_error_but_no_tiles_are() -> None:
    assert together(found(), found(), found(size=(180, 100))) == []
    with pytest.raises(ValueError, match="found neither"):
        merge_tile_detections([], None, 0.7)

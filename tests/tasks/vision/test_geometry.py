"""Letterboxing and suppression against Ultralytics' own arithmetic, and there and back for odd shapes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.vision.geometry import Floats, Letterbox, box_iou_matrix, non_max_suppression, shared_areas, xywhr_to_corners

Parts = tuple[float, float, float, float]

sides = st.one_of(st.integers(1, 64), st.integers(65, 5000))
sizes = st.sampled_from([32, 192, 320, 640])
unit = st.floats(0, 1)
fractions = st.tuples(unit, unit, unit, unit)


def box_in(width: int, height: int, parts: Parts) -> Floats:
    x1, x2 = sorted((parts[0] * width, parts[1] * width))
    y1, y2 = sorted((parts[2] * height, parts[3] * height))
    return np.array([[x1, y1, x2, y2]], np.float32)


@given(sides, sides, sizes, fractions)
def test_a_box_comes_back_within_a_pixel(width: int, height: int, size: int, parts: Parts) -> None:
    letterbox = Letterbox.fit(width, height, size)
    box = box_in(width, height, parts)
    gain = np.array([letterbox.inner_width / width, letterbox.inner_height / height] * 2, np.float32)
    offset = np.array([letterbox.left, letterbox.top] * 2, np.float32)
    assert np.abs(letterbox.to_image(box * gain + offset) - box).max() < 1


@given(sides, sides, sizes)
def test_the_image_and_its_border_fill_the_square(width: int, height: int, size: int) -> None:
    letterbox = Letterbox.fit(width, height, size)
    assert 1 <= letterbox.inner_width <= size
    assert 1 <= letterbox.inner_height <= size
    assert max(letterbox.inner_width, letterbox.inner_height) == size
    assert 0 <= letterbox.left <= size - letterbox.inner_width
    assert 0 <= letterbox.top <= size - letterbox.inner_height


@given(st.integers(1, 200), st.integers(1, 200), fractions)
def test_boxes_never_leave_the_image(width: int, height: int, parts: Parts) -> None:
    letterbox = Letterbox.fit(width, height, 64)
    box = box_in(64, 64, parts)
    x1, y1, x2, y2 = letterbox.to_image(box * 3 - 64)[0]
    assert 0 <= x1 <= x2 <= width
    assert 0 <= y1 <= y2 <= height


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), sizes)
def test_pixels_equal_those_of_ultralytics(width: int, height: int, size: int) -> None:
    augment = pytest.importorskip("ultralytics.data.augment")
    image = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    theirs = augment.LetterBox(size, auto=False)(image=image)
    assert np.array_equal(Letterbox.fit(width, height, size).apply(image), theirs)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sizes, fractions)
def test_boxes_equal_those_of_ultralytics(width: int, height: int, size: int, parts: Parts) -> None:
    ops = pytest.importorskip("ultralytics.utils.ops")
    box = box_in(size, size, parts)
    theirs = ops.scale_boxes((size, size), box.copy(), (height, width))
    assert np.abs(Letterbox.fit(width, height, size).to_image(box) - theirs).max() < 0.01


def test_the_border_is_grey_and_the_odd_pixel_goes_behind() -> None:
    letterbox = Letterbox.fit(100, 45, 100)
    square = letterbox.apply(np.full((45, 100, 3), 255, np.uint8))
    assert (letterbox.top, letterbox.inner_height) == (27, 45)
    assert (square[:27] == 114).all()
    assert (square[27:72] == 255).all()
    assert (square[72:] == 114).all()


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found an image of 0x5"):
        Letterbox.fit(0, 5, 64)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an image of shape"):
        Letterbox.fit(10, 10, 64).apply(np.zeros((5, 10, 3), np.uint8))


def test_the_best_of_a_heap_stays_and_other_classes_are_left_alone() -> None:
    heap = np.array(
        [
            [0, 0, 10, 10, 0.5, 0],
            [1, 0, 11, 10, 0.9, 0],
            [0, 0, 10, 10, 0.4, 1],
            [50, 50, 60, 60, 0.3, 0],
        ],
        np.float32,
    )
    assert non_max_suppression(heap, 0.5).tolist() == [1, 2, 3]


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = np.array([[0, 0, 10, 10, 0.9, 0], [4, 0, 14, 10, 0.8, 0], [8, 0, 18, 10, 0.7, 0]], np.float32)
    assert non_max_suppression(chain, 0.4).tolist() == [0, 2]


@settings(max_examples=50)
@given(st.integers(0, 60), st.integers(0, 2**16), st.floats(0.05, 0.95))
def test_suppression_equals_that_of_opencv(count: int, seed: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    corner, extent = rng.random((count, 2)) * 50, rng.random((count, 2)) * 40 + 1
    scores = rng.permutation(count) / 100 + 0.1
    rows = np.column_stack([corner, corner + extent, scores, rng.integers(0, 3, count)]).astype(np.float32)
    boxes = np.column_stack([rows[:, :2], rows[:, 2:4] - rows[:, :2]]).tolist()
    theirs = cv2.dnn.NMSBoxesBatched(boxes, rows[:, 4].tolist(), rows[:, 5].astype(int).tolist(), 0.0, iou)
    ours = rows[non_max_suppression(rows, iou)]
    assert sorted(ours[:, 4].tolist()) == sorted(rows[list(theirs), 4].tolist())
    assert ours[:, 4].tolist() == sorted(ours[:, 4].tolist(), reverse=True)


def test_boxes_without_area_overlap_nothing() -> None:
    flat = np.array([[5, 5, 5, 9], [5, 5, 5, 9], [0, 0, 10, 10]], np.float32)
    assert box_iou_matrix(flat)[:2, :].max() == 0


def test_rotated_boxes_with_edges_on_one_line_share_exactly_what_they_do() -> None:
    """Boxes that are moved along themselves: OpenCV's `intersectConvexConvex` says 0 of some of them."""
    rng = np.random.default_rng(2)
    places, sides, angles = rng.uniform(50, 900, (2000, 2)), rng.uniform(5, 90, (2000, 2)), rng.uniform(-3, 3, 2000)
    boxes, apart = np.column_stack([places, sides, angles]).astype(np.float32), rng.uniform(0, 1, 2000)
    apart[:100] = 0
    moved = boxes.copy()
    moved[:, :2] += (apart * boxes[:, 2] * np.array([np.cos(boxes[:, 4]), np.sin(boxes[:, 4])])).T
    shares = shared_areas(xywhr_to_corners(boxes), xywhr_to_corners(moved)) / boxes[:, 2:4].prod(axis=1)
    np.testing.assert_allclose(shares, 1 - apart, atol=1e-4)


def test_three_outlines_share_what_lies_in_all_of_them() -> None:
    square = np.array([[[0, 0], [10, 0], [10, 10], [0, 10]]], np.float32)
    triangle = np.array([[[0, 0], [0, 10], [10, 0]]], np.float32)  # it turns the other way
    assert shared_areas(square).tolist() == [100]
    assert shared_areas(square, triangle).tolist() == [50]
    assert shared_areas(square + 5, square, triangle + 2).tolist() == [8]
    assert shared_areas(square, square + 10, triangle).tolist() == [0]
    assert shared_areas(square, square * [1, 0]).tolist() == [0]
    assert shared_areas(square[:0], square[:0]).tolist() == []

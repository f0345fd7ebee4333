"""Boxes and shapes as text for a page."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.inference.results.overlay import (
    BOX,
    MAX_BOXES,
    MAX_POINTS,
    box_text,
    confidence_steps,
    confidence_steps_of,
    first_rows,
    fit_to_room,
    shape_texts,
)
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats, xywhr_to_corners

SIZES = st.tuples(st.integers(1, 9000), st.integers(1, 9000))
SHARES = st.floats(0, 1, width=32)


def detections(boxes: NDArray[Any], confidence: Floats, size: tuple[int, int] = (640, 480)) -> Detections:
    ids = np.zeros(len(boxes), np.int32)
    return Detections(
        width=size[0],
        height=size[1],
        xyxy=boxes.reshape(-1, 4).astype(np.float32),
        confidence=confidence,
        class_id=ids,
        source="a.jpg",
    )


def rows(found: Detections) -> np.ndarray:
    return np.arange(len(found))


def boxes_of(text: str) -> NDArray[np.float64]:
    """The boxes in a text, as shares: five bytes of four times ten bits, and one of the confidence."""
    packed = [base64.b64decode(text[at : at + BOX]) for at in range(0, len(text), BOX)]
    numbers = [int.from_bytes(each[:5]) for each in packed]
    return np.array([[number >> bits & 1023 for bits in (30, 20, 10, 0)] for number in numbers]) / 1023


def shape_of(text: str) -> tuple[int, NDArray[np.float64]]:
    """What a shape is, and its points as shares."""
    data = base64.b64decode(text)
    pairs = [divmod(int.from_bytes(data[at : at + 3]), 4096) for at in range(0, len(data), 3)]
    (kind, count), *points = pairs
    assert count == len(points)
    return kind, np.array(points).reshape(-1, 2) / 4095 * 2 - 0.5


@given(SIZES, st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES, SHARES), min_size=1, max_size=20))
def test_a_box_comes_back_to_half_a_thousandth(size: tuple[int, int], values: list[tuple[float, ...]]) -> None:
    table = np.array(values, np.float32)
    found = detections(table[:, :4] * np.array([*size, *size], np.float32), table[:, 4], size)
    text = box_text(found, rows(found))
    assert len(text) == BOX * len(table)
    assert np.abs(boxes_of(text) - table[:, :4]).max() < 0.5 / 1023 + 1e-4
    assert list(confidence_steps_of(text)) == confidence_steps(table[:, 4]).tolist()


@given(st.lists(st.floats(0, 1, width=32) | st.integers(0, 100).map(lambda step: float(np.float32(step / 100)))))
def test_a_step_of_the_slider_counts_what_a_filter_of_the_table_counts(values: list[float]) -> None:
    confidence = np.array(values, np.float32)
    steps = confidence_steps(confidence)
    for step in range(101):
        assert (steps >= step).sum() == (confidence >= np.float32(step / 100)).sum()


def test_numbers_that_are_none_and_boxes_outside_give_a_text_all_the_same() -> None:
    found = detections(np.array([[np.nan, -np.inf, np.inf, 9e9], [-5, -5, 700, 500]]), np.array([0.5, 2.0], np.float32))
    text = box_text(found, rows(found))
    assert boxes_of(text).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert list(confidence_steps_of(text)) == [50, 100]


def test_the_surest_boxes_come_first_and_there_is_an_end() -> None:
    sure = np.linspace(0.1, 0.9, MAX_BOXES + 50, dtype=np.float32)
    found = detections(np.tile([1.0, 2, 3, 4], (len(sure), 1)), sure)
    order = first_rows(found)
    assert len(order) == MAX_BOXES
    assert sure[order].tolist() == sorted(sure, reverse=True)[:MAX_BOXES]


def test_classes_of_the_whole_picture_have_no_boxes() -> None:
    found = detections(np.array([[0.0, 0, 640, 480]] * 3), np.array([0.7, 0.2, 0.1], np.float32))
    assert first_rows(found).tolist() == []


def ring(points: int) -> Floats:
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([320 + 200 * np.cos(turn), 240 + 150 * np.sin(turn)], axis=1).astype(np.float32)


@pytest.mark.parametrize("points", [3, 4, 40, 4000])
def test_an_outline_has_few_points_and_stays_where_it_is(points: int) -> None:
    found = replace(
        detections(np.array([[120.0, 90, 520, 390]]), np.array([0.9], np.float32)), polygons=(ring(points),)
    )
    kind, places = shape_of(shape_texts(found, rows(found))[0])
    assert kind == 2
    assert 3 <= len(places) <= MAX_POINTS
    inside = places * [640, 480]
    assert np.abs(inside.min(axis=0) - ring(points).min(axis=0)).max() < 6
    assert np.abs(inside.max(axis=0) - ring(points).max(axis=0)).max() < 6


def test_a_rotated_box_keeps_its_corners_outside_the_picture_too() -> None:
    rotated = np.array([[620, 240, 200, 60, 0.4]], np.float32)
    found = detections(np.array([[520.0, 180, 640, 300]]), np.array([0.9], np.float32))
    found = replace(found, xywhr=rotated, polygons=tuple(xywhr_to_corners(rotated)))
    kind, places = shape_of(shape_texts(found, rows(found))[0])
    assert kind == 0
    order = [np.abs(places * [640, 480] - corner).sum(axis=1).min() for corner in xywhr_to_corners(rotated)[0]]
    assert max(order) < 1


def test_keypoints_keep_their_places_and_the_unseen_are_marked() -> None:
    points = np.array([[[64, 48, 0.9], [320, 240, 0.2]]], np.float32)
    found = replace(detections(np.array([[0.0, 0, 400, 400]]), np.array([0.9], np.float32)), keypoints=points)
    kind, places = shape_of(shape_texts(found, rows(found))[0])
    assert kind == 1
    assert places[0] == pytest.approx([0.1, 0.1], abs=0.001)
    assert places[1].tolist() == [1.5, 1.5]


def test_an_outline_of_numbers_that_are_none_comes_to_an_end() -> None:
    broken = np.full((400, 2), np.nan, np.float32)
    broken[::3] = np.inf
    found = replace(detections(np.ones((1, 4)), np.array([0.9], np.float32)), polygons=(broken,))
    assert len(shape_of(shape_texts(found, rows(found))[0])[1]) <= MAX_POINTS


def test_a_mask_without_outline_has_an_empty_shape() -> None:
    found = detections(np.array([[0.0, 0, 9, 9]]), np.array([0.9], np.float32))
    (text,) = shape_texts(replace(found, polygons=(np.empty((0, 2), np.float32),)), rows(found))
    assert shape_of(text)[1].size == 0


@given(
    st.integers(0, 400),
    st.none() | st.integers(-9, 9),
    st.lists(st.tuples(st.lists(SHARES, max_size=9), st.booleans()), max_size=4),
)
def test_what_is_cut_fits_and_the_surest_stay(
    room: int, beside: int | None, classes: list[tuple[list[float], bool]]
) -> None:
    """Also where it fits, or does not, by a few characters `beside` all that there is."""
    boxes, shapes = [], []
    for values, outlined in classes:
        found = detections(np.ones((len(values), 4)), np.sort(np.array(values, np.float32))[::-1].copy())
        found = replace(found, polygons=tuple(ring(8) for _ in values) if outlined else None)
        boxes.append(box_text(found, rows(found)))
        shapes.append(shape_texts(found, rows(found)))
    if beside is not None:
        room = max(sum(map(len, boxes)) + sum(len(shape) for texts in shapes for shape in texts) + beside, 0)
    kept, outlines = fit_to_room(room, boxes, shapes)
    before = sorted((step for text in boxes for step in confidence_steps_of(text)), reverse=True)
    after = sorted((step for text in kept for step in confidence_steps_of(text)), reverse=True)
    assert after == before[: len(after)]
    assert len(after) >= min(len(before), room // (BOX + 4))
    assert all(text.startswith(short) for text, short in zip(boxes, kept, strict=True))
    for text, short, had in zip(kept, outlines, shapes, strict=True):
        assert len(short) == (len(text) // BOX if had else 0)
        assert all(shape in {whole, "AAAA"} for shape, whole in zip(short, had, strict=False))
    assert sum(map(len, kept)) + sum(len(shape) for texts in outlines for shape in texts) <= room

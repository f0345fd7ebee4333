"""Masks from run lengths, and their outlines: not a pixel more or less."""

import contextlib
import tracemalloc
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pycocotools import mask as masks

from tasks.importing.run_lengths import (
    MAX_CORNERS,
    EmptyMaskError,
    JaggedMaskError,
    RunLengthError,
    join_rings,
    rings_of_brush,
    rings_of_columns,
    rings_of_mask,
    rings_of_rows,
)

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(np.any)


def runs(values: NDArray[np.bool_]) -> list[int]:
    """The lengths of the runs, of False first."""
    found = [(bool(value), len(list(run))) for value, run in groupby(values.tolist())]
    return [0] * found[0][0] + [length for _, length in found]


def compressed(mask: NDArray[np.bool_]) -> str:
    """The text of run lengths that COCO's own code writes."""
    return str(masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode())


def brush(mask: NDArray[np.bool_]) -> list[int]:
    """Label Studio's bytes of a mask: words of 8 bits, each run repeated, or one by one."""
    values = np.repeat(mask.ravel() * 255, 4).tolist()
    sizes = (2, 3, 5, 15)
    text = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for value, run in groupby(values):
        length = len(list(run))
        while length:
            part = min(length, 2**15)
            text += f"1{3:02b}{part - 1:015b}{value:08b}"
            length -= part
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


def area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def inside(outline: NDArray[np.float64], x: float, y: float) -> bool:
    """By the rule of even and odd."""
    after = np.roll(outline, -1, axis=0)
    crossing = (outline[:, 1] > y) != (after[:, 1] > y)
    (x1, y1), (x2, y2) = outline[crossing].T, after[crossing].T
    return bool((x1 + (y - y1) / (y2 - y1) * (x2 - x1) > x).sum() % 2)


@given(mask=MASKS)
def test_run_lengths_of_all_tools_give_the_outlines_of_the_mask(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    columns = runs(mask.T.ravel())
    expected = [ring.tolist() for ring in rings_of_mask(mask)]
    for rings in (
        rings_of_columns(columns, height, width),
        rings_of_columns([*columns, 0, 0], height, width),
        rings_of_columns(compressed(mask), height, width),
        rings_of_rows(runs(mask.ravel()), height, width),
        rings_of_brush(brush(mask), height, width),
    ):
        assert [ring.tolist() for ring in rings] == expected


@settings(deadline=None)
@given(mask=MASKS)
def test_outlines_hold_the_pixels_of_the_mask_and_no_others(mask: NDArray[np.bool_]) -> None:
    rings = rings_of_mask(mask)
    assert sum(map(area, rings)) == mask.sum()
    outline = join_rings(rings)
    # A little off the middles, where no edge of the outline and no bridge of it passes.
    found = [[inside(outline, x + 0.5 + 1e-5, y + 0.5 + 2e-5) for x in range(mask.shape[1])] for y in range(len(mask))]
    assert (np.array(found) == mask).all()


def test_a_mask_without_a_pixel_is_told_as_such() -> None:
    with pytest.raises(EmptyMaskError):
        rings_of_rows([6], 2, 3)


def test_long_rings_are_joined_without_the_square_of_their_corners_in_memory() -> None:
    angles = np.linspace(0, 2 * np.pi, MAX_CORNERS // 2)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    join_rings([circle, 2 * circle])  # loads SciPy, which is not to be measured
    tracemalloc.start()
    outline = join_rings([circle, 2 * circle])
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert len(outline) == MAX_CORNERS + 2
    assert np.linalg.norm(np.diff(outline, axis=0), axis=1).max() == pytest.approx(1)  # the bridge


@pytest.mark.parametrize(
    ("counts", "height", "width"),
    [
        ([3, 2], 2, 2),
        ([5, -1], 2, 2),
        ([2**40], 2, 2),
        ([4], 2**20, 2**20),
        ([4], 0, 4),
        ([5], -1, -5),
        ("a", 2, 2),
        ("o" * 100, 2, 2),
        ("é", 2, 2),
        ("", 2, 2),
    ],
)
def test_run_lengths_that_do_not_fill_their_mask_are_refused(counts: str | list[int], height: int, width: int) -> None:
    with pytest.raises(RunLengthError):
        rings_of_columns(counts, height, width)


def test_a_mask_with_too_many_corners_is_told_as_such() -> None:
    with pytest.raises(JaggedMaskError):
        rings_of_rows([1] * 141**2, 141, 141)


@pytest.mark.parametrize("numbers", [[], [1], [0, 0, 0, 16, 56, 255], [300], [255] * 9])
def test_a_damaged_brush_is_refused(numbers: list[int]) -> None:
    with pytest.raises(RunLengthError):
        rings_of_brush(numbers, 2, 2)


@given(numbers=st.lists(st.integers(0, 255), max_size=40))
def test_no_brush_does_anything_else_than_to_be_refused_or_read(numbers: list[int]) -> None:
    with contextlib.suppress(RunLengthError):
        rings_of_brush([0, 0, 0, 16, *numbers], 2, 2)


@pytest.mark.parametrize("width", [2**14, 2**20, 2**28])
@pytest.mark.parametrize("counts", [[0, 2**28], [2**14 + 1, 2**28 - 2**15, 2**14 - 1], [2**28 - 2**15, 1, 2**15 - 1]])
def test_a_mask_costs_what_its_run_lengths_do_whatever_its_size(counts: list[int], width: int) -> None:
    tracemalloc.start()
    (ring,) = rings_of_columns(counts, 2**28 // width, width)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    assert area(ring) == counts[1]
    tracemalloc.stop()

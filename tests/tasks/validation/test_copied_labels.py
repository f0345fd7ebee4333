"""Labels that were copied are known by themselves, and those that people draw are not taken for copies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tasks.validation.copied_labels import CopiedLabels, ImageBoxes, find_copied_labels

Rows = Sequence[Sequence[float]]
WIDTH, HEIGHT = 640, 480
FOUND = (0, 0.1234567, 0.2345678, 0.4567891, 0.5678912)  # as a model finds it
OTHER = (0, 0.3234561, 0.1345672, 0.5567893, 0.3678914)
DRAWN = (0, 100 / WIDTH, 150 / HEIGHT, 300 / WIDTH, 333 / HEIGHT)  # on whole pixels
SECOND = (1, 301 / WIDTH, 17 / HEIGHT, 397 / WIDTH, 123 / HEIGHT)
WHOLE = (0, 0.0, 0.0, 1.0, 1.0)


def boxes(*images: Rows) -> ImageBoxes:
    rows = [row for own in images for row in own]
    return ImageBoxes(np.repeat(np.arange(len(images)), [len(own) for own in images]), np.array(rows).reshape(-1, 5))


def every(originals: ImageBoxes) -> Any:
    return np.ones(len(originals.boxes), np.bool_)


def copies(image: Rows, *originals: Rows, same: bool = False) -> list[tuple[int, int]]:
    """The originals that an image has labels of, and how many."""
    own = boxes(*originals)
    found = find_copied_labels(boxes(image), np.array([[float(WIDTH), HEIGHT]]), own, every(own), lambda *_: same)
    return [(each.original, each.labels) for each in found]


@pytest.mark.parametrize("decimals", [7, 6, 5])
def test_one_box_that_lies_between_the_pixels_is_a_copy_however_it_was_rounded(decimals: int) -> None:
    rounded = [round(number, decimals) for number in FOUND]
    assert copies([rounded], [OTHER], [FOUND]) == [(1, 1)]
    assert copies([[*rounded[:1], rounded[1] + 2e-5, *rounded[2:]]], [FOUND]) == []
    assert copies([[1, *rounded[1:]]], [FOUND]) == [], "of another class"


def test_half_of_the_labels_are_enough_and_less_are_not() -> None:
    own = [OTHER, SECOND]
    assert copies([FOUND, SECOND], [FOUND]) == [(0, 1)]
    assert copies([FOUND, *own], [FOUND]) == []
    assert copies([FOUND, *own], [DRAWN, FOUND, SECOND]) == [(0, 2)], (
        "of ten labels of the original three were left out"
    )
    assert copies([FOUND, *own], [FOUND], [OTHER]) == [], "of two originals"


@pytest.mark.parametrize(
    ("image", "is_copy", "is_copy_of_the_same_picture"),
    [
        ([WHOLE], False, False),
        ([], False, False),
        ([DRAWN], False, True),
        ([DRAWN, SECOND], True, True),
        ([DRAWN, (1, *DRAWN[1:])], False, True),  # the sides of the second box say nothing more
        ([(0, 0.123, 0.234, 0.456, 0.567)], False, True),
        ([(0, 0.0, 0.2345678, 0.4567891, 0.5678912)], True, True),
        ([(0, 0.0, 0.2345678, 0.4567891, 1.0)], False, True),
        ([(0, 0.0, 0.0, 0.4567891, 1.0)], False, False),
        ([(0, 1 / WIDTH, 0.0, 0.4567891, 1 - 1 / HEIGHT)], False, False),  # a pixel from the edge
    ],
)
def test_equal_labels_are_a_copy_if_that_is_no_chance(
    image: Rows, *, is_copy: bool, is_copy_of_the_same_picture: bool
) -> None:
    assert bool(copies(image, image)) == is_copy
    assert bool(copies(image, image, same=True)) == is_copy_of_the_same_picture


def test_boxes_that_people_draw_on_the_pixels_of_small_images_are_no_copies() -> None:
    """Of 3,000 images with one object each, some have the box of another."""
    rng = np.random.default_rng(0)
    centre, half = rng.integers(24, 40, (6000, 2)), rng.integers(5, 10, (6000, 2))
    drawn = np.column_stack([np.zeros(6000), np.hstack([centre - half, centre + half]) / 64])
    images, originals = (ImageBoxes(np.arange(3000), own) for own in np.split(drawn, 2))
    assert len({tuple(row) for row in images.boxes} & {tuple(row) for row in originals.boxes}) > 10
    assert not [*find_copied_labels(images, np.full((3000, 2), 64.0), originals, every(originals), lambda *_: False)]


def test_the_copy_is_told_once_for_each_image_with_its_original() -> None:
    images = boxes([SECOND], [FOUND, OTHER], [OTHER])
    originals = boxes([OTHER, FOUND], [FOUND], [OTHER])
    found = [
        *find_copied_labels(images, np.tile([640.0, 480.0], (3, 1)), originals, every(originals), lambda *_: False)
    ]
    assert found[0] == CopiedLabels(image=1, original=0, labels=2)
    assert [each.image for each in found] == [1, 2]
    unknown = [*find_copied_labels(images, np.zeros((3, 2)), originals, every(originals), lambda *_: False)]
    assert [each.image for each in unknown] == [1], "of images of unknown size each side may lie on a pixel"
    assert not [*find_copied_labels(boxes(), np.zeros((0, 2)), originals, every(originals), lambda *_: False)]


def test_what_a_person_may_have_drawn_is_no_proof_but_part_of_a_copy() -> None:
    """The first of three labels is a model's, the others stand still before a camera."""
    images, originals = (
        boxes([FOUND, OTHER, SECOND], [OTHER, SECOND], [FOUND, DRAWN, DRAWN]),
        boxes([FOUND, OTHER, SECOND]),
    )
    sizes, is_proof = np.tile([640.0, 480.0], (3, 1)), np.array([True, False, False])
    found = [*find_copied_labels(images, sizes, originals, is_proof, lambda *_: True)]
    assert [each.image for each in found] == [0]
    assert [
        *find_copied_labels(images, sizes, boxes([DRAWN], *[[FOUND]] * 9), np.arange(10) == 9, lambda *_: True)
    ] == []


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-4])
def test_boxes_that_many_images_have_take_no_longer(spread: float) -> None:
    """All pairs of them would be 10,000,000,000."""
    rng = np.random.default_rng(0)
    many: Any = np.tile(FOUND, (100_000, 1)) + rng.uniform(0, spread or 1e-300, (100_000, 5)) * [0, 1, 1, 1, 1]
    own = ImageBoxes(np.arange(100_000), many)
    assert len([*find_copied_labels(own, np.full((100_000, 2), 640.0), own, every(own), lambda *_: False)]) == 100_000

"""What is drawn and written for people to look at."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tasks.core.detections import Detections
from tasks.core.media import (
    draw,
    drawing,
    fit,
    images,
    read_image,
    write_jpeg,
)
from tests.core.media.samples import photo


def detections(width: int, height: int, *boxes: list[float]) -> Detections:
    count = len(boxes)
    array = np.reshape(np.array(boxes, np.float32), (-1, 4))
    return Detections(
        "x", None, None, width, height, array, np.full(count, 0.9, np.float32), np.arange(count, dtype=np.int32)
    )


def test_drawing_marks_the_box_and_leaves_the_picture_alone() -> None:
    image = photo(400, 300)
    before = image.copy()
    drawn = draw(image, detections(400, 300, [100, 120, 200, 220]), ["cell"])
    assert (image == before).all()
    assert np.abs(drawn[150, 100].astype(int) - drawing.class_colour(0)).max() < 60
    assert (drawn[230:] == image[230:]).all()
    assert (drawn[90:118, 100:160] != image[90:118, 100:160]).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (40, 40)])
def test_drawing_survives_tiny_pictures_and_odd_names(size: tuple[int, int]) -> None:
    width, height = size
    drawn = draw(photo(*size), detections(width, height, [0, 0, width, height]), ["ünïcode\n\0</script>" * 20])
    assert drawn.shape == (height, width, 3)


def test_neighbouring_classes_have_colours_apart() -> None:
    colours = [np.array(drawing.class_colour(number)) for number in range(12)]
    assert min(np.abs(one - other).max() for one, other in pairwise(colours)) > 60


def test_a_jpeg_is_written_whole_and_its_limits_are_kept(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "thumbnails" / "a.jpg", photo())
    assert read_image(tmp_path / "thumbnails" / "a.jpg").shape == (40, 60, 3)
    write_jpeg(tmp_path / "long.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert read_image(tmp_path / "long.jpg").shape == (1, images.JPEG_LARGEST_SIDE, 3)
    assert {path.name for path in tmp_path.rglob("*.*")} == {"a.jpg", "long.jpg"}


def test_fitting_shrinks_and_never_enlarges() -> None:
    assert fit(photo(600, 400), 300).shape == (200, 300, 3)
    assert fit(photo(60, 40), 300).shape == (40, 60, 3)
    assert fit(photo(3000, 2), 300).shape == (1, 300, 3)

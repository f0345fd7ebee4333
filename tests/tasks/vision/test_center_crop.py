"""What a classifier is shown, against Ultralytics' own transforms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.vision.geometry import Rgb, center_crop


def image(width: int, height: int) -> Rgb:
    return np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)


def theirs(picture: Rgb, size: int) -> Rgb:
    augment, pillow = pytest.importorskip("ultralytics.data.augment"), pytest.importorskip("PIL.Image")
    pixels = augment.classify_transforms(size)(pillow.fromarray(picture)).permute(1, 2, 0).numpy()
    return np.asarray(np.rint(pixels * 255), np.uint8)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([32, 64, 96, 224]))
def test_pixels_equal_those_of_ultralytics(width: int, height: int, size: int) -> None:
    """To the last bit, or a level off for slivers."""
    picture = image(width, height)
    ours, expected = center_crop(picture, size), theirs(picture, size)
    assert ours.shape == (size, size, 3)
    sliver = max(width, height) * size // min(width, height) > 32 * size
    assert np.abs(ours.astype(int) - expected).max() <= sliver


@pytest.mark.parametrize(("width", "height"), [(1, 500), (500, 1), (4, 700), (330, 10)])
def test_a_sliver_is_at_most_a_level_off(width: int, height: int) -> None:
    picture = image(width, height)
    assert np.abs(center_crop(picture, 64).astype(int) - theirs(picture, 64)).max() <= 1


def test_a_sliver_is_not_enlarged_as_a_whole() -> None:
    """That would take 40 GB."""
    assert center_crop(np.zeros((1, 60000, 3), np.uint8), 480).shape == (480, 480, 3)


@pytest.mark.parametrize(("shape", "size"), [((0, 5, 3), 64), ((5, 5), 64), ((5, 5, 4), 64), ((5, 5, 3), 0)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ValueError, match=r"expected an image of shape \(height, width, 3\)"):
        center_crop(np.zeros(shape, np.uint8), size)

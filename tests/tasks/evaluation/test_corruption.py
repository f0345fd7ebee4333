"""Images are corrupted as the paper's library does it, the same way each time."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from imagecorruptions import get_corruption_names
from pydantic import ValidationError

from infra import demo_data
from tasks.evaluation.corruption import (
    ALL_CORRUPTIONS,
    CORRUPTIONS,
    DARKNESS,
    STRENGTHS,
    Corruption,
    Rgb,
    corrupt_image,
    plan_corrupted,
    write_corrupted,
)
from tasks.parameters import MAX_SEED, EvaluationParams


def picture(width: int = demo_data.WIDTH, height: int = demo_data.HEIGHT) -> Rgb:
    image = demo_data.background(np.random.default_rng(1))
    demo_data.draw_shape(image, ("circle", 90, 90, 40))
    return np.ascontiguousarray(image[:height, :width])


def change(corruption: Corruption) -> float:
    """How far the pixels move, in grey levels."""
    image = picture()
    return float(np.abs(corrupt_image(image, corruption, 1).astype(float) - image).mean())


def test_the_corruptions_are_those_of_the_paper() -> None:
    assert list(CORRUPTIONS) == get_corruption_names("common")
    assert len(ALL_CORRUPTIONS) == 45


@pytest.mark.parametrize("name", [*CORRUPTIONS, DARKNESS])
def test_each_strength_changes_the_image_otherwise(name: str) -> None:
    changes = [change(Corruption(name, strength)) for strength in STRENGTHS]
    assert min(changes) > 0
    assert len({*changes}) == len(STRENGTHS)
    if name != "frost":  # whose strengths are other pictures of ice
        assert changes == sorted(changes)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_corrupts_the_same_way_and_nothing_else_is_drawn(name: str) -> None:
    image, corruption = picture(), Corruption(name, 3)
    first = corrupt_image(image, corruption, 7)
    np.testing.assert_array_equal(corrupt_image(image, corruption, 7), first)
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "impulse_noise"])  # each has its own generator
def test_every_image_can_be_corrupted_with_the_largest_seed_that_is_taken(name: str) -> None:
    most = EvaluationParams(corrupted_images=1000, seed=MAX_SEED)
    corrupt_image(picture(9, 9), Corruption(name, 1), most.seed + most.corrupted_images)
    with pytest.raises(ValidationError):
        EvaluationParams(seed=MAX_SEED + 1)


@pytest.mark.parametrize("name", [*CORRUPTIONS, DARKNESS])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (31, 40), (40, 5)])
def test_a_small_image_keeps_its_size(name: str, width: int, height: int) -> None:
    assert corrupt_image(picture(width, height), Corruption(name, 5), 1).shape == (height, width, 3)


def test_files_are_clean_first_and_of_the_size_that_a_model_takes(tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    cv2.imwrite(str(source), cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))
    files = list(plan_corrupted([source, source], tmp_path, 160, 5))
    assert [each.corruption for each in files[::2]] == [None, *ALL_CORRUPTIONS]
    assert len({each.target for each in files}) == len(files) == 92
    for each in files[:4]:
        write_corrupted(each)
    written = [np.asarray(cv2.imread(str(each.target))) for each in files[:4]]
    assert {each.shape for each in written} == {(120, 160, 3)}
    np.testing.assert_array_equal(written[0], written[1])
    assert (written[2] != written[3]).any()

"""Planted drift is told, no drift is not: 20 seeds each, of drawn images as the check measures them."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from infra.demo_data import CLASSES, HEIGHT, WIDTH, background, draw_shape, place_shapes
from tasks.dataset.image_stats import ImageStats, check_image
from tasks.monitoring.drift import DriftTest, compare_profiles, stability_index
from tasks.monitoring.profiles import OBJECT_TRAITS, Profile, looks_of, profile_images
from tasks.vision.detections import Detections

SEEDS = 20
POOL = 200
SIZES = [(30, 30), (64, 64)]  # of the validation and of the window: a version keeps 64 images at most


def newer_camera(image: np.ndarray) -> np.ndarray:
    """A steeper curve, darker corners and more noise, of the same size."""
    rows, columns = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    shaded = 255 * (image / 255.0) ** 1.2 * (1 - 0.15 * (rows**2 + columns**2))[..., None]
    noise = np.random.default_rng(int(image.sum()) % 2**32).normal(0, 8, image.shape)
    return np.asarray(np.clip(shaded + noise, 0, 255), np.uint8)


CAMERAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda image: image,
    "darkened": lambda image: (image * 0.7).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "new camera": newer_camera,
}


@cache
def drawn(camera: str) -> tuple[list[ImageStats], list[Detections]]:
    """What each image of a pool looks like through a camera, and its shapes as a model finds them."""
    rng = np.random.default_rng(1)
    seen, found = [], []
    for _ in range(POOL):
        image = background(rng)
        shapes = place_shapes(rng, CLASSES)
        for shape in shapes:
            draw_shape(image, shape)
        stats, _ = check_image(cv2.imencode(".bmp", CAMERAS[camera](image))[1].tobytes(), "x.bmp")
        assert stats is not None
        seen.append(stats)
        boxes = [(x - r, y - r, x + r, y + r) for _, x, y, r in shapes]
        found.append(
            Detections(
                width=WIDTH,
                height=HEIGHT,
                xyxy=np.array(boxes, np.float32),
                confidence=rng.beta(9, 1, len(shapes)).astype(np.float32),
                class_id=np.array([CLASSES.index(name) for name, *_ in shapes], np.int32),
            )
        )
    return seen, found


def profile(camera: str, images: np.ndarray) -> Profile:
    seen, found = drawn(camera)
    pictures = np.array([np.frombuffer(each.thumbnail, np.uint8) for each in seen]) / 255
    return profile_images([*map(looks_of, seen)], found, pictures).select(images)


def judge(camera: str, seed: int, sizes: tuple[int, int], lost: int = -1) -> set[str]:
    """The traits that drifted from some images of the pool to others, in which a class may be lost."""
    images = np.random.default_rng(seed).permutation(POOL)
    validated, window = sizes
    new = profile(camera, images[validated : validated + window])
    kept = new.class_id != lost
    columns = {name: getattr(new, name)[kept] for name in OBJECT_TRAITS}
    tests = compare_profiles(
        profile("same", images[:validated]),
        replace(new, **columns),
        len(CLASSES),
        min_images=min(sizes),
        significance=0.01,
        seed=seed,
    )
    return {test.trait for test in tests if test.drifted}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    ("camera", "trait"), [("darkened", "brightness"), ("blurred", "sharpness"), ("new camera", "embeddings")]
)
def test_another_look_of_the_images_is_told_for_each_seed(camera: str, trait: str, sizes: tuple[int, int]) -> None:
    assert [seed for seed in range(SEEDS) if trait not in judge(camera, seed, sizes)] == []


@pytest.mark.parametrize(("sizes", "least"), [((30, 30), 9), ((50, 50), 17), ((64, 64), 20), ((64, 100), 20)])
def test_a_class_that_is_gone_is_told_the_more_often_the_more_images_there_are(
    sizes: tuple[int, int], least: int
) -> None:
    assert sum("classes" in judge("same", seed, sizes, lost=2) for seed in range(SEEDS)) >= least


@pytest.mark.parametrize("sizes", SIZES)
def test_images_as_before_raise_no_alarm(sizes: tuple[int, int]) -> None:
    assert [seed for seed in range(SEEDS) if judge("same", seed, sizes)] == []


def values(brightness: np.ndarray) -> Profile:
    """Images of which only the brightness is known, without objects."""
    nothing = np.zeros(0)
    return Profile(
        pictures={"brightness": brightness},
        embeddings=np.zeros((len(brightness), 0)),
        image=nothing.astype(np.int64),
        class_id=nothing.astype(np.int64),
        confidence=nothing,
        size=nothing,
    )


def test_a_difference_that_is_significant_but_small_is_no_drift() -> None:
    rng = np.random.default_rng(0)
    first, *_ = compare_profiles(
        values(rng.normal(0, 1, 20_000)), values(rng.normal(0.1, 1, 20_000)), 1, min_images=50, significance=0.01
    )
    assert first.q_value is not None
    assert first.q_value < 1e-9
    assert not first.drifted


def test_too_few_images_are_not_judged() -> None:
    rng = np.random.default_rng(0)
    tests = compare_profiles(
        values(rng.normal(0, 1, 100)), values(rng.normal(9, 1, 12)), 1, min_images=50, significance=0.01
    )
    assert tests[0] == DriftTest(trait="brightness", reference=100, window=12)
    assert all(test.q_value is None for test in tests)


def test_chance_alone_gives_no_stability_index() -> None:
    rng = np.random.default_rng(0)
    draws = [stability_index(*rng.multinomial(60, np.full(10, 0.1), 2).astype(float)) for _ in range(200)]
    assert np.mean(draws) < 0.1

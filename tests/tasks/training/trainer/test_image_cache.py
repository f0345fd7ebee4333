"""Images that are kept decoded: the same pixels as without, whole or not at all, and only where it pays."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tasks.training.trainer.image_cache import (
    RESERVE,
    ImageCost,
    decide,
    decoded_path,
    keep_decoded,
    measure,
    read_decoded,
    write_decoded,
)

SIZE = 64
IMAGES = 6
GIB = 1 << 30
LARGE = ImageCost(bytes=1_000_000, decode=10, read=0.5)
SMALL = ImageCost(bytes=1_000_000, decode=1.2, read=0.5)


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """Images of several shapes, one with an orientation of its own, as a merge lays them out."""
    images, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (50 + 20 * number, 120, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f"{number}.{'png' if number % 2 else 'jpg'}"), pixels)
        (labels / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    return images


def samples(images: Path, *, kept: bool | None, **overrides: Any) -> Iterator[list[Any]]:
    """What a training sees of the images in each epoch."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    dataset = YOLODataset(
        img_path=str(images),
        imgsz=SIZE,
        batch_size=1,
        augment=True,
        hyp=get_cfg(overrides={"task": "detect", "imgsz": SIZE, **overrides}),
        data={"names": {0: "cat"}, "channels": 3},
        task="detect",
    )
    dataset.max_buffer_length = 4  # fewer than there are images, so that some are decoded again
    if kept is not None:
        keep_decoded(dataset, is_kept=kept)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - as Ultralytics does
    while True:
        epoch = [dataset[index] for index in range(IMAGES)]
        yield [(each["img"].numpy().tobytes(), each["bboxes"].tolist(), each["ori_shape"]) for each in epoch]


@pytest.mark.parametrize("overrides", [{}, {"mosaic": 0.0}, {"mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5}])
def test_a_training_sees_the_same_images_with_and_without(merged: Path, overrides: dict[str, float]) -> None:
    bare, keeping = samples(merged, kept=None, **overrides), samples(merged, kept=True, **overrides)
    first = next(bare), next(bare), next(bare)
    assert (next(keeping), next(keeping), next(keeping)) == first
    assert len(list(merged.parents[1].glob(f"decoded-{SIZE}/train/*.bgr"))) == IMAGES
    again = samples(merged, kept=True, **overrides)  # a process that finds all of them
    assert (next(again), next(again), next(again)) == first


def test_an_evaluation_reads_what_a_training_has_kept_and_keeps_nothing(merged: Path, tmp_path: Path) -> None:
    view = tmp_path / "view" / "images" / "val"
    view.mkdir(parents=True)
    for image in merged.iterdir():
        (view / image.name).symlink_to(image)
    next(samples(merged, kept=False))
    assert not list(merged.parents[1].glob("decoded-*"))
    next(samples(merged, kept=True))
    assert all(decoded_path(image, SIZE).exists() for image in view.iterdir())


def test_half_a_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.bgr"
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert write_decoded(path, image, (20, 30))
    found = read_decoded(path)
    assert found is not None
    assert (found[0] == image).all()
    assert found[1] == (20, 30)
    content = path.read_bytes()
    for length in (0, 10, 20, len(content) - 1):
        path.write_bytes(content[:length])
        assert read_decoded(path) is None


def test_a_full_disk_ends_the_keeping_and_not_the_training(
    merged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = next(samples(merged, kept=None))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=RESERVE))
    assert next(samples(merged, kept=True)) == first
    assert not [file for file in merged.parents[1].rglob("*.bgr*") if file.is_file()]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.bgr").mkdir()
    assert not write_decoded(tmp_path / "a.bgr", np.zeros((2, 2, 3), np.uint8), (2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["a.bgr"]


@pytest.mark.parametrize(
    ("cache", "cost", "epochs", "room", "is_kept", "why"),
    [
        ("auto", LARGE, 10, (4 * GIB, 20 * GIB), True, "images are kept decoded (decoding one takes 10.0 ms"),
        ("auto", SMALL, 10, (4 * GIB, 20 * GIB), False, "less than 1 ms would be saved"),
        ("auto", LARGE, 2, (4 * GIB, 20 * GIB), False, "fewer than 3 epochs"),
        ("auto", LARGE, 10, (GIB, 20 * GIB), False, "of memory 1.1 GB is left"),
        ("auto", LARGE, 10, (4 * GIB, 2 * GIB), False, "the disk has 2.1 GB left"),
        ("disk", SMALL, 1, (GIB, 20 * GIB), True, "images are kept decoded"),
        ("disk", SMALL, 1, (GIB, 2 * GIB), False, "the disk has 2.1 GB left"),
    ],
)
def test_what_is_chosen_is_measured_and_told(
    cache: str, cost: ImageCost, epochs: int, room: tuple[int, int], is_kept: bool, why: str
) -> None:
    choice = decide(cache, cost, 1000, epochs, room)
    assert choice.is_kept == is_kept
    assert why in choice.why


def test_the_cost_of_an_image_is_measured_and_nothing_is_left(merged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (merged / "0.jpg").write_bytes(b"no image")
    cost = measure(sorted(merged.iterdir()), SIZE, folder)
    assert cost is not None
    assert cost.decode > 0
    assert cost.read > 0
    assert 64 * 27 * 3 <= cost.bytes <= 64 * 64 * 3
    assert not list(folder.iterdir())
    assert measure([merged / "0.jpg"], SIZE, folder) is None
    assert measure([], SIZE, folder) is None

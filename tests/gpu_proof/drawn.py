"""The data of the proof: drawn shapes as a dataset that a merge might have written, and a sample of its validation."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import yaml

from infra import demo_data
from tasks.dataset.validation_sample import ValidationSample, unpack_sample
from tasks.media.images import decode_image, encode_jpeg
from tasks.merge.manifest import ImageCounts, count_rows, write_manifest
from tasks.vision.geometry import Rgb
from tests.gpu_proof.setup import Setup

CLASSES = demo_data.CLASSES
SAMPLE = 64  # images of validation that are compared
DISTINCT = 32  # pictures of which JPEGs and films are made


def dataset(setup: Setup) -> Path:
    """Return the data.yaml of the shapes, which are drawn if they are not there."""
    folder = setup.folder / "data"
    described = folder / "data.yaml"
    if described.exists():
        return described
    rng = np.random.default_rng(1)
    counts = {}
    for split, images in (("train", setup.scale.train), ("val", setup.scale.val)):
        counts[split] = ImageCounts()
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            jpeg, shapes = demo_data.draw_image(rng, CLASSES)
            label = demo_data.label_text(shapes, CLASSES)
            (folder / "images" / split / f"00-{number:06d}.jpg").write_bytes(jpeg)
            (folder / "labels" / split / f"00-{number:06d}.txt").write_text(label)
            counts[split].add(1, count_rows(label))
    write_manifest(folder, counts)
    content = {"train": "images/train", "val": "images/val", "names": dict(enumerate(CLASSES))}
    described.write_text(yaml.safe_dump(content, sort_keys=False))
    return described


def sample_file(setup: Setup) -> Path:
    """Return a zip of some of the validation, as a training keeps it with its version."""
    folder = dataset(setup).parent
    path = setup.folder / "sample.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.write(folder / "data.yaml", "data.yaml")
        for image in sorted((folder / "images" / "val").iterdir())[:SAMPLE]:
            packed.write(image, f"images/val/{image.name}")
            packed.write(folder / "labels" / "val" / f"{image.stem}.txt", f"labels/val/{image.stem}.txt")
    return path


def sample(setup: Setup, folder: Path) -> ValidationSample:
    """Return the sample, unpacked into a new folder."""
    return unpack_sample(sample_file(setup), "detect", folder)


def pictures(width: int, height: int) -> list[Rgb]:
    """Return drawn shapes, uint8 [height, width, 3] RGB."""
    rng = np.random.default_rng(2)
    drawn = [decode_image(demo_data.draw_image(rng, CLASSES)[0]) for _ in range(DISTINCT)]
    return [np.asarray(cv2.resize(each, (width, height)), np.uint8) for each in drawn]


def jpegs(width: int, height: int) -> list[bytes]:
    """Return the same as JPEG files."""
    return [encode_jpeg(picture, 90) for picture in pictures(width, height)]

"""The validation sample of a training, unpacked: images with what is true of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from tasks.dataset.archive import Archive, ArchiveError, open_archive
from tasks.dataset.image_stats import is_image
from tasks.errors import StudioError
from tasks.parameters import ValidationPolicy
from tasks.vision.geometry import Floats

MAX_IMAGES = 1000
_IMAGE = re.compile(r"images/val/[^/]+|val/\d+/[^/]+")


# Whatever numpy, PyYAML and zipfile raise at what is inside: also an id beyond int32, and YAML nested too deeply.
_FAULTS = (
    *(ArchiveError, KeyError, ValueError, TypeError, AttributeError, OSError, yaml.YAMLError),
    *(OverflowError, RecursionError),
)


class SampleError(StudioError):
    """The zip is no validation sample."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The m objects that an image shows, of classify the one class.

    `class_id` [m]; `corners` [m, 4, 2] are x, y in shares of the image's sides: of a rotated box its own, else those of
    the upright box around what is labelled.
    """

    class_id: NDArray[np.int32]
    corners: Floats

    def boxes(self, width: int, height: int) -> Floats:
        """Return the [m, 4] upright boxes in pixels."""
        corners = self.corners * np.array([width, height], np.float32)
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)

    def rotated(self, width: int, height: int) -> Floats:
        """Return the [m, 5] rotated boxes in pixels: centre, width, height, angle in radians."""
        corners = self.corners * np.array([width, height], np.float32)
        boxes = [cv2.minAreaRect(each.astype(np.float32)) for each in corners]
        rows = [(*centre, *sides, np.deg2rad(angle)) for centre, sides, angle in boxes]
        return np.array(rows, np.float32).reshape(-1, 5)


@dataclass(frozen=True, eq=False)
class SampleImage:
    """An image of the sample: its `name` there, its file here, and what is true of it."""

    name: str
    path: Path
    truth: GroundTruth


@dataclass(frozen=True)
class ValidationSample:
    """Images in the order of their names, and the names of the classes by id."""

    task: str
    class_names: tuple[str, ...]
    images: tuple[SampleImage, ...]


def unpack_sample(path: Path, task: str, folder: Path) -> ValidationSample:
    """Read what `merging.write_sample` wrote; the images go into the fresh `folder`, under numbers.

    No name in the zip becomes a path. Raises SampleError where it is no such zip.
    """
    archive, faults = open_archive(path, ValidationPolicy())
    if archive is None:
        raise SampleError(f"{path.name}: {faults[0].message}")
    try:
        with archive:
            names = sorted(name for name in archive.entries if _IMAGE.fullmatch(name) and is_image(name))[:MAX_IMAGES]
            classes = _class_names(yaml.safe_load(archive.read("data.yaml")))
            folder.mkdir(parents=True)
            images = tuple(_unpack(archive, name, task, folder / f"{at:04d}") for at, name in enumerate(names))
            _require_known(images, classes)
    except _FAULTS as error:
        raise SampleError(f"expected a validation sample with labels, found {path.name} with: {error}") from error
    if not images:
        raise SampleError(f"expected images below images/val or val/CLASS in {path.name}, found none")
    return ValidationSample(task, classes, images)


def _class_names(described: Mapping[str, Any]) -> tuple[str, ...]:
    names = {int(number): str(name) for number, name in described["names"].items()}
    return tuple(names[number] for number in sorted(names))


def _require_known(images: Sequence[SampleImage], class_names: Sequence[str]) -> None:
    ids = {number for image in images for number in image.truth.class_id.tolist()}
    if unknown := sorted(number for number in ids if not 0 <= number < len(class_names)):
        raise ValueError(f"classes {unknown} in labels, of {len(class_names)} in data.yaml")


def _unpack(archive: Archive, name: str, task: str, path: Path) -> SampleImage:
    file = path.with_suffix(f".{name.rpartition('.')[2].lower()}")
    file.write_bytes(archive.read(name))
    folder, base = name.split("/")[-2:]
    if task == "classify":
        return SampleImage(base, file, GroundTruth(np.array([int(folder)], np.int32), np.zeros((1, 4, 2), np.float32)))
    label = f"labels/val/{base.rpartition('.')[0]}.txt"
    rows = archive.read(label).decode("utf-8").splitlines() if label in archive.entries else []
    return SampleImage(base, file, _read_ground_truth([row.split() for row in rows if row.strip()], task))


def _read_ground_truth(rows: list[list[str]], task: str) -> GroundTruth:
    corners = [_corners(np.array(row[1:], np.float64), task) for row in rows]
    classes = np.array([int(row[0]) for row in rows], np.int32)
    return GroundTruth(classes, np.array(corners, np.float32).reshape(-1, 4, 2))


def _corners(values: NDArray[np.float64], task: str) -> NDArray[np.float64]:
    if task == "pose" or len(values) == 4:
        low, high = values[:2] - values[2:4] / 2, values[:2] + values[2:4] / 2
    elif task == "obb":
        return values[:8].reshape(4, 2)
    else:
        points = values.reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])

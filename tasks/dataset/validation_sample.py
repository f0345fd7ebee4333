"""The validation sample of a training, unpacked: images with their ground truth."""

import re
from collections.abc import Mapping
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


# Raised by numpy, PyYAML and zipfile: also for an id beyond int32, and YAML nested too deeply.
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
    the upright box around the label.
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


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleImage:
    """An image of the sample: its `name` there, its file here, and its ground truth."""

    name: str
    path: Path
    truth: GroundTruth


@dataclass(frozen=True, kw_only=True)
class ValidationSample:
    """Images in the order of their names, and the names of the classes by id."""

    task: str
    class_names: tuple[str, ...]
    images: tuple[SampleImage, ...]


def unpack_sample(path: Path, task: str, folder: Path) -> ValidationSample:
    """Read the zip of `pack_sample`; the images go into the fresh `folder`, under numbers: no name becomes a path.

    Raises:
        SampleError: It is no such zip.
    """  # noqa: DOC501 - what is raised inside becomes this error
    archive, faults = open_archive(path, ValidationPolicy())
    if archive is None:
        raise SampleError(f"{path.name}: {faults[0].message}")
    try:
        with archive:
            names = sorted(name for name in archive.entries if _IMAGE.fullmatch(name) and is_image(name))[:MAX_IMAGES]
            classes = _class_names(yaml.safe_load(archive.read("data.yaml")))
            folder.mkdir(parents=True)
            images = tuple(_unpack(archive, name, task, folder / f"{at:04d}") for at, name in enumerate(names))
            ids = {number for image in images for number in image.truth.class_id.tolist()}
            if unknown := sorted(number for number in ids if not 0 <= number < len(classes)):
                raise ValueError(f"classes {unknown} in labels, of {len(classes)} in data.yaml")
    except _FAULTS as error:
        raise SampleError(f"expected a validation sample with labels, found {path.name} with: {error}") from error
    if not images:
        raise SampleError(f"expected images below images/val or val/CLASS in {path.name}, found none")
    return ValidationSample(task=task, class_names=classes, images=images)


def _class_names(described: Mapping[str, Any]) -> tuple[str, ...]:
    names = {int(number): str(name) for number, name in described["names"].items()}
    return tuple(names[number] for number in sorted(names))


def _unpack(archive: Archive, name: str, task: str, path: Path) -> SampleImage:
    file = path.with_suffix(f".{name.rpartition('.')[2].lower()}")
    file.write_bytes(archive.read(name))
    folder, base = name.split("/")[-2:]
    label = f"labels/val/{base.rpartition('.')[0]}.txt"
    if task == "classify":
        truth = GroundTruth(np.array([int(folder)], np.int32), np.zeros((1, 4, 2), np.float32))
    else:
        lines = archive.read(label).decode("utf-8").splitlines() if label in archive.entries else []
        rows = [row for line in lines if (row := line.split())]
        corners = [_corners(np.array(row[1:], np.float64), task) for row in rows]
        classes = np.array([int(row[0]) for row in rows], np.int32)
        truth = GroundTruth(classes, np.array(corners, np.float32).reshape(-1, 4, 2))
    return SampleImage(name=base, path=file, truth=truth)


def _corners(values: NDArray[np.float64], task: str) -> NDArray[np.float64]:
    if task == "obb" and len(values) != 4:
        return values[:8].reshape(4, 2)
    if task == "pose" or len(values) == 4:
        low = values[:2] - values[2:4] / 2
        high = values[:2] + values[2:4] / 2
    else:
        points = values.reshape(-1, 2)
        low = points.min(axis=0)
        high = points.max(axis=0)
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])

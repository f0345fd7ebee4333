"""The labelled images of an archive that versions are evaluated on, unpacked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.image_stats import ImageStats
from tasks.dataset.labels import MAX_LABEL_BYTES, LabelRow, parse_labels
from tasks.dataset.layout import Dataset, LabelledImage, class_folder
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.merge.steps import ValidArchive
from tasks.validation.dataset_check import open_dataset
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

ALL_SPLITS = "all"


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationImage:
    """An image: its entry `name` in the archive, its file here, its label rows, and of classify the class."""

    name: str
    path: Path
    rows: tuple[LabelRow, ...]
    stats: ImageStats
    class_id: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationSet:
    """The images of a `split` of an archive, whose SHA-256 in hex is `digest`; class ids are those of the archive.

    `keypoints` is `kpt_shape`: the number of keypoints, and the numbers of each.
    """

    archive: str
    digest: str
    split: str
    task: str
    class_names: tuple[str, ...]
    keypoints: tuple[int, int]
    images: tuple[EvaluationImage, ...]

    @property
    def title(self) -> str:
        """The archive and its split, in words."""
        return f"{self.archive}, {'all splits' if self.split == ALL_SPLITS else f'split {self.split}'}"


def unpack_split(archive: ValidArchive, split: str, folder: Path) -> EvaluationSet:
    """Write the images of a split, or of `ALL_SPLITS`, into the fresh `folder`: under numbers, no name becomes a path.

    Raises:
        StudioError: The archive lacks the split, or has no label in it.
    """
    folder.mkdir(parents=True)
    try:
        with open_dataset(archive.path, task=archive.task) as (entries, dataset):
            samples = _samples(dataset, split, archive.name)
            images = tuple(_unpack(entries, dataset, archive, each, folder / f"{at:06d}") for at, each in samples)
    except (ArchiveError, OSError) as error:
        raise StudioError(f"Unpacking {safe_repr(archive.name)} stopped: {error}") from error
    task = dataset.task
    if task is None or not any(image.rows or image.class_id is not None for image in images):
        fix = "Name a split with labels, or label its images."
        raise StudioError(expected_found_fix(f"labels in split {split} of {safe_repr(archive.name)}", "none", fix))
    return EvaluationSet(
        archive=archive.name,
        digest=archive.digest,
        split=split,
        task=task,
        class_names=dataset.class_names,
        keypoints=dataset.keypoints or (0, 0),
        images=images,
    )


def _samples(dataset: Dataset, split: str, archive: str) -> Iterator[tuple[int, LabelledImage]]:
    splits = {name: samples for name, samples in dataset.splits.items() if samples}
    chosen = splits if split == ALL_SPLITS else {split: splits.get(split, ())}
    samples = {sample.image: sample for each in chosen.values() for sample in each}
    if not samples:
        fix = f"Name one of those, or {ALL_SPLITS}."
        raise StudioError(expected_found_fix(f"images in split {split} of {safe_repr(archive)}", str([*splits]), fix))
    return enumerate(samples.values())


def _unpack(
    entries: Archive, dataset: Dataset, archive: ValidArchive, sample: LabelledImage, path: Path
) -> EvaluationImage:
    file = path.with_suffix(f".{sample.image.rpartition('.')[2].lower()}")
    file.write_bytes(entries.read(sample.image))
    rows: tuple[LabelRow, ...] = ()
    if sample.label is not None:
        rows = parse_labels(entries.read(sample.label, MAX_LABEL_BYTES), sample.label, dataset.rules)[0].rows
    of_tree = dataset.task == "classify"
    return EvaluationImage(
        name=sample.image,
        path=file,
        rows=rows,
        stats=archive.images[sample.image],
        class_id=dataset.class_names.index(class_folder(sample.image)) if of_tree else None,
    )


def label_detections(image: EvaluationImage, data: EvaluationSet, task: str, width: int, height: int) -> Detections:
    """Return the labels of an image of `width` x `height` pixels as detections with confidence 1, for a model's `task`.

    A model for detect gets the boxes around outlines.
    """
    size = np.array([width, height], np.float32)
    if image.class_id is not None:
        return _labels(np.array([[0, 0, width, height]], np.float32), [image.class_id], width, height)
    classes = [row.class_id for row in image.rows]
    fields: dict[str, Any] = {}
    if data.task in {"segment", "obb"}:
        rings = tuple(row.coordinates.reshape(-1, 2).astype(np.float32) * size for row in image.rows)
        boxes = [np.concatenate([ring.min(axis=0), ring.max(axis=0)]) for ring in rings]
        if task == "segment":
            fields["polygons"] = rings
        if task == "obb":
            fields |= {"xywhr": _rotated(rings), "polygons": rings}
    else:
        boxes = [_corners(row.coordinates[:4]) * np.tile(size, 2) for row in image.rows]
    if task == "pose":
        count, numbers = data.keypoints
        points = np.array([row.coordinates[4:] for row in image.rows], np.float32).reshape(-1, count, numbers)
        seen = points[..., 2:] if numbers == 3 else np.ones_like(points[..., :1])
        fields["keypoints"] = np.concatenate([points[..., :2] * size, seen], axis=2)
    return _labels(np.array(boxes, np.float32).reshape(-1, 4), classes, width, height, **fields)


def _labels(boxes: Floats, classes: Sequence[int], width: int, height: int, **fields: Any) -> Detections:  # noqa: ANN401
    return Detections(
        width=width,
        height=height,
        xyxy=boxes,
        confidence=np.ones(len(boxes), np.float32),
        class_id=np.array(classes, np.int32),
        **fields,
    )


def _corners(box: NDArray[np.float64]) -> Floats:
    centre, span = box[:2], box[2:4]
    return np.concatenate([centre - span / 2, centre + span / 2]).astype(np.float32)


def _rotated(rings: Sequence[Floats]) -> Floats:
    boxes = [cv2.minAreaRect(ring) for ring in rings]
    return np.array([(*centre, *sides, np.deg2rad(angle)) for centre, sides, angle in boxes], np.float32).reshape(-1, 5)

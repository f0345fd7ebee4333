"""A YOLO archive as an archive of COCO, for those who go on elsewhere."""

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.label_origins import LABEL_ORIGINS, pack_label_origins
from tasks.dataset.labels import MAX_LABEL_BYTES, LabelRow, parse_labels
from tasks.dataset.layout import Dataset, LabelledImage
from tasks.errors import StudioError, expected_found_fix
from tasks.importing.annotations import Floats, ImportLog
from tasks.importing.frames import shown_size
from tasks.media.image_header import HeaderError, read_header
from tasks.validation.dataset_check import open_dataset

_CORNERS = frozenset({"segment", "obb"})  # the tasks whose labels are corners
_DIGITS = 4  # of a coordinate, in pixels


class CocoError(StudioError):
    """An archive that cannot be one of COCO."""


@dataclass(frozen=True, kw_only=True)
class CocoSummary:
    """What was written: images by split, number of annotations, and how often each thing was left out or changed."""

    images: Mapping[str, int]
    annotations: int
    changes: Mapping[str, int]


def write_coco(source: Path, target: Path) -> CocoSummary:
    """Write the archive of COCO `target`, whole or not at all, of the YOLO archive `source`.

    It has `annotations/instances_SPLIT.json` and `images/SPLIT/`, as CVAT and Datumaro read them.

    Raises:
        CocoError: It holds classes of whole images, which COCO has no place for, or `target` is there.
        DatasetError: The source is no valid archive.
    """
    if target.exists():
        raise CocoError(expected_found_fix("a new file", str(target), "Name another one, or remove it."))
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with open_dataset(source) as (archive, dataset), zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as made:
            summary = _CocoArchive(archive, dataset, made).write()
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return summary


@dataclass
class _CocoArchive:
    archive: Archive
    dataset: Dataset
    made: zipfile.ZipFile
    log: ImportLog = field(default_factory=ImportLog)
    names: dict[str, str] = field(default_factory=dict)

    def write(self) -> CocoSummary:
        if self.dataset.task == "classify":
            fix = "Export it with a tool for trees of folders."
            raise CocoError(expected_found_fix("labels of objects", "classes of whole images", fix))
        images: dict[str, int] = {}
        annotations = 0
        for split, samples in self.dataset.splits.items():
            document = self._document(split, samples)
            self.made.writestr(f"annotations/instances_{split}.json", json.dumps(document, ensure_ascii=False))
            images[split], annotations = len(document["images"]), annotations + len(document["annotations"])
        if origins := self.dataset.origins.of_images(self.names):
            self.made.writestr(LABEL_ORIGINS, pack_label_origins(origins))
        placed = {sample.image for samples in self.dataset.splits.values() for sample in samples}
        for image in self.dataset.labels.keys() - placed:
            self.log.add("left out: an image that is in no split", image)
        if self.dataset.task == "obb":
            self.log.add("changed: a rotated box into a polygon of four corners", "", annotations)
        return CocoSummary(images=images, annotations=annotations, changes=dict(self.log.counts))

    def _document(self, split: str, samples: Sequence[LabelledImage]) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        names: Counter[str] = Counter()
        for sample in samples:
            data = self.archive.read(sample.image)
            try:
                header = read_header(data)
            except HeaderError as error:
                self.log.add(f"left out: an image that cannot be read ({error})", sample.image)
                continue
            width, height = shown_size(header.width, header.height, header.orientation)
            name = self._free_name(sample.image, names)
            self.names[sample.image] = f"images/{split}/{name}"
            self.made.writestr(self.names[sample.image], data, zipfile.ZIP_STORED)
            images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
            for row in self._rows(sample):
                own = {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": row.class_id + 1,
                    "iscrowd": 0,
                }
                annotations.append(own | self._shape(row, np.array([width, height], np.float64)))
        return {"images": images, "annotations": annotations, "categories": list(self._categories())}

    def _free_name(self, image: str, names: Counter[str]) -> str:
        name = image.rpartition("/")[2]
        names[name] += 1
        if names[name] == 1:
            return name
        self.log.add("changed: the name of an image, which another one of its split has", image)
        stem, _, ending = name.rpartition(".")
        return self._free_name(f"{stem}-{names[name]}.{ending}", names)

    def _rows(self, sample: LabelledImage) -> Sequence[LabelRow]:
        if sample.label is None:
            return ()
        try:
            data = self.archive.read(sample.label, MAX_LABEL_BYTES)
        except ArchiveError as error:
            self.log.add(f"left out: a label file that cannot be read ({error.finding.code})", sample.label)
            return ()
        labels, faults = parse_labels(data, sample.label, self.dataset.rules)
        for fault in faults:
            self.log.add(f"a line that the check names: {fault.code}", sample.label)
        return labels.rows

    def _shape(self, row: LabelRow, size: Floats) -> dict[str, Any]:
        if self.dataset.task in _CORNERS:
            return _outline(row.coordinates.reshape(-1, 2) * size)
        centre, sides = row.coordinates[:2] * size, row.coordinates[2:4] * size
        box = {
            "bbox": _rounded(np.concatenate([centre - sides / 2, sides])),
            "area": float(sides.prod()),
            "segmentation": [],
        }
        return box | self._keypoints(row.coordinates[4:], size)

    def _keypoints(self, numbers: Floats, size: Floats) -> dict[str, Any]:
        if not self.dataset.keypoints:
            return {}
        points = numbers.reshape(self.dataset.keypoints)
        seen = points[:, 2] if points.shape[1] == 3 else 2 * points.any(axis=1)
        written = np.column_stack([points[:, :2] * size, seen])
        return {"keypoints": _rounded(written), "num_keypoints": int((seen > 0).sum())}

    def _categories(self) -> Iterator[dict[str, Any]]:
        count = self.dataset.keypoints[0] if self.dataset.keypoints else 0
        names = _point_names(self.dataset.flip_idx or range(count))
        points = {"keypoints": names, "skeleton": []} if count else {}
        for at, name in enumerate(self.dataset.class_names, 1):
            yield {"id": at, "name": name, **points}


def _point_names(mirrored: Sequence[int]) -> list[str]:
    """Names of keypoints that tell left from right, as an import reads them: COCO has no other place for it."""
    sides = {-1: "left ", 0: "", 1: "right "}
    return [f"{sides[(at > other) - (at < other)]}point {min(at, other) + 1}" for at, other in enumerate(mirrored)]


def _outline(corners: Floats) -> dict[str, Any]:
    x, y = corners.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    area = abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2
    return {"segmentation": [_rounded(corners)], "bbox": _rounded(np.concatenate([low, high - low])), "area": area}


def _rounded(numbers: Floats) -> list[float]:
    return [round(number, _DIGITS) for number in numbers.ravel().tolist()]

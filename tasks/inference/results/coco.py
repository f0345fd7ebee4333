"""Detections in the COCO result format: images, categories, and annotations with a score."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.vision.detections import VISIBLE
from tasks.vision.geometry import COORDINATE_LIMIT
from tasks.vision.polygons import polygon_areas

_Numbers = NDArray[np.float64]
_Rows = NDArray[np.int64]


class CocoWriter:
    """A context that writes a COCO file in pieces; annotations wait in a second file, beside it, until the end.

    `categories` maps class name to category id, from 0 in the order of their first use; two files may share them.
    """

    def __init__(self, path: Path, categories: dict[str, int] | None = None) -> None:
        self.categories = {} if categories is None else categories
        self._path = path
        self._beside = path.with_name(f"{path.name}.annotations")
        self._image_count = 0
        self._annotation_count = 0
        self._files = ExitStack()

    def __enter__(self) -> Self:
        self._images = self._files.enter_context(self._path.open("w", encoding="utf-8"))
        self._annotations = self._files.enter_context(self._beside.open("w+", encoding="utf-8"))
        self._images.write('{"images": [')
        return self

    @property
    def images(self) -> int:
        """The number of images so far."""
        return self._image_count

    def category(self, name: str) -> int:
        """Return the category id of a class; a new name gets a new id."""
        return self.categories.setdefault(name, len(self.categories))

    def add(self, images: pa.Table, rows: pa.Table) -> list[int]:
        """Append images and all their detections, in the same order; return the category id of each detection."""
        first = self._image_count + 1
        _write(self._images, image_entries(images, first), after=self._image_count)
        owners = np.repeat(np.arange(first, first + images.num_rows), images["detections"].to_numpy())
        classes = pc.dictionary_encode(rows["class_name"]).unify_dictionaries().combine_chunks()
        names = np.array([self.category(name) for name in classes.dictionary.to_pylist()], np.int64)
        ids = names[classes.indices.to_numpy()]
        entries = annotation_entries(rows, owners, ids, self._annotation_count + 1)
        _write(self._annotations, entries, after=self._annotation_count)
        self._image_count += images.num_rows
        self._annotation_count += rows.num_rows
        return [int(number) for number in ids]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._files:
            if kind is None:
                self._images.write('\n], "annotations": [')
                self._annotations.seek(0)
                shutil.copyfileobj(self._annotations, self._images)
                entries = [{"id": number, "name": name} for name, number in self.categories.items()]
                self._images.write(f'\n], "categories": {json.dumps(entries)}}}\n')
        self._beside.unlink()


def image_entries(images: pa.Table, first_id: int) -> list[dict[str, Any]]:
    """Return the entries in `images`, numbered from `first_id`: one for each image and each video frame.

    `file_name` is the path of the plain copy in the run's folder. Without a copy it is the source, of a frame with
    `#frame=` and its number. `source` is the input as in predictions.parquet.
    """
    entries: list[dict[str, Any]] = []
    columns = [images[name].to_pylist() for name in ("source", "image", "width", "height", "frame", "timestamp_ms")]
    for number, (source, image, width, height, frame, timestamp_ms) in enumerate(zip(*columns, strict=True), first_id):
        file_name = image or (source if frame is None else f"{source}#frame={frame}")
        entry = {"id": number, "file_name": file_name, "width": width, "height": height, "source": source}
        entries.append(entry if frame is None else entry | {"frame": frame, "timestamp_ms": timestamp_ms})
    return entries


def annotation_entries(rows: pa.Table, image_ids: _Rows, category_ids: _Rows, first_id: int) -> list[dict[str, Any]]:
    """Return the entries in `annotations`, numbered from `first_id`; all lengths are in pixels.

    `bbox` is left, top, width, height. Outlines are in `segmentation`, and `area` is theirs. Hidden keypoints are
    0, 0, 0, the others x, y, 2. `image_ids` and `category_ids` are [n].
    """
    left, top, right, bottom = (rows[name].to_numpy().astype(np.float64) for name in ("x1", "y1", "x2", "y2"))
    boxes = np.stack([left, top, right - left, bottom - top], axis=1)
    areas = boxes[:, 2] * boxes[:, 3]
    own: dict[str, list[Any]] = {}
    if "polygon" in rows.column_names:
        areas, own["segmentation"] = _outlines(rows["polygon"], areas)
    if "keypoints" in rows.column_names:
        own["keypoints"], own["num_keypoints"] = _keypoints(rows["keypoints"])
    columns = {
        "id": range(first_id, first_id + rows.num_rows),
        "image_id": image_ids.tolist(),
        "category_id": category_ids.tolist(),
        "bbox": boxes.round(2).tolist(),
        "area": areas.round(2).tolist(),
        "iscrowd": [0] * rows.num_rows,
        "score": rows["confidence"].to_numpy().astype(np.float64).round(5).tolist(),
        **own,
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _outlines(column: pa.ChunkedArray, areas: _Numbers) -> tuple[_Numbers, list[list[list[float]]]]:
    """Return areas [n], of the box if there is no outline, and `segmentation` for n rows."""
    values, ends, owners = _flat(column)
    # A broken graph may give NaN or infinity.
    usable = np.abs(values) <= COORDINATE_LIMIT
    points = np.where(usable, values, 0).reshape(-1, 2)
    broken = np.bincount(owners, ~usable, len(areas)) > 0
    whole = (np.diff(ends) >= 6) & ~broken
    own = areas.copy()
    if whole.any():
        own[whole] = polygon_areas(points[whole[owners[::2]]], np.diff(ends)[whole] // 2)
    flat = points.ravel().round(2).tolist()
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), whole.tolist(), strict=True)
    return own, [[flat[start:end]] if drawn else [] for start, end, drawn in spans]


def _keypoints(column: pa.ChunkedArray) -> tuple[list[list[float]], list[int]]:
    """Return `keypoints` and `num_keypoints` for n rows."""
    values, ends, owners = _flat(column)
    points = values.reshape(-1, 3)
    shown = (points[:, 2] >= VISIBLE) & (np.abs(points[:, :2]) <= COORDINATE_LIMIT).all(axis=1)
    points = np.where(shown[:, None], np.column_stack([points[:, :2], np.full(len(points), 2.0)]), 0)
    counts = np.bincount(owners[::3], shown, len(ends) - 1).astype(int)
    flat = points.ravel().round(2).tolist()
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    return [flat[start:end] for start, end in spans], counts.tolist()


def _flat(column: pa.ChunkedArray) -> tuple[_Numbers, _Rows, _Rows]:
    """Return all numbers [m] of n lists, the n + 1 bounds of the lists in them, and the list [m] of each number."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    values = pc.list_flatten(column).to_numpy().astype(np.float64)
    return values, np.concatenate([[0], np.cumsum(lengths)]), np.repeat(np.arange(len(lengths)), lengths)


def _write(file: TextIO, entries: list[dict[str, Any]], *, after: int) -> None:
    if entries:
        file.write(",\n" if after else "\n")
        # All in one call: an encoder an entry takes as long as its entry.
        file.write(json.dumps(entries, separators=(",", ":"))[1:-1])

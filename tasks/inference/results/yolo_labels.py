"""Detections in the text format of YOLO: a file for each image, beside data.yaml, which names the classes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray

from tasks.vision.detections import VISIBLE

DATA_YAML = "data.yaml"
LABELS = "labels"
LABEL_TASKS = frozenset({"detect", "segment", "pose", "obb"})

_Row = Mapping[str, Any]
_Points = NDArray[np.float64]


def write_labels(folder: Path, task: str, images: pa.Table, rows: pa.Table, class_ids: Sequence[int]) -> None:
    """Write `labels/x.txt` for each image that has a copy `images/x.jpg`; it is empty if there are no detections.

    `rows` are all detections of `images`, in the same order, and `class_ids` their classes. A line is the class and,
    as shares of width and height: centre and sides of the box (detect), the outline (segment), the box and keypoints
    x, y, visibility (pose), or the four corners (obb). Confidences are left out: trainers misread a last column.
    """
    for name, text in to_label_texts(task, images, rows, class_ids):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def to_label_texts(task: str, images: pa.Table, rows: pa.Table, class_ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file that `write_labels` writes."""
    if task not in LABEL_TASKS:
        return
    columns = [images[name].to_pylist() for name in ("image", "width", "height", "detections")]
    names = [*_BOX, *(name for name in _OWN if name in rows.column_names)]
    first = 0
    for image, width, height, count in zip(*columns, strict=True):
        ids = class_ids[first : first + count]
        detections = rows.slice(first, count)
        first += count
        if image is None:
            continue
        lines = to_label_lines(task, width, height, detections.select(names).to_pylist(), ids)
        yield f"{LABELS}/{PurePosixPath(image).stem}.txt", "".join(f"{line}\n" for line in lines)


def to_label_lines(
    task: str, width: int, height: int, rows: Iterable[Mapping[str, Any]], class_ids: Iterable[int]
) -> list[str]:
    """Return the line of each detection in an image of `width` x `height` pixels; `rows` are of predictions.parquet."""
    shape = _SHAPES[task]
    sides = np.array([width, height], np.float64)
    return [f"{number} {_numbers(shape(row, sides))}" for number, row in zip(class_ids, rows, strict=True)]


def to_data_yaml(class_names: Sequence[str], keypoints: int = 0) -> str:
    """Return data.yaml for images/ and labels/ beside it, with the number of keypoints of a pose model."""
    values: dict[str, Any] = {"train": "images", "val": "images", "names": dict(enumerate(class_names))}
    if keypoints:
        values["kpt_shape"] = [keypoints, 3]
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


def keypoint_count(rows: pa.Table) -> int:
    """Return the number of keypoints of a detection; 0 if there are none."""
    if "keypoints" not in rows.column_names or not rows.num_rows:
        return 0
    return int(pc.max(pc.list_value_length(rows["keypoints"])).as_py() or 0) // 3


_BOX = "x1", "y1", "x2", "y2"
_OWN = "polygon", "keypoints"


def _corners(row: _Row) -> _Points:
    return np.array([[row["x1"], row["y1"]], [row["x2"], row["y2"]]], np.float64)


def _box(row: _Row, sides: _Points) -> _Points:
    least, most = _shares(_corners(row), sides)
    return np.concatenate([(least + most) / 2, most - least])


def _outline(row: _Row, sides: _Points) -> _Points:
    """Return the outline; without one the corners of the box, because no line must be missing."""
    ring = np.array(row["polygon"] or (), np.float64)
    if len(ring) < 6 or not np.isfinite(ring).all():
        (left, top), (right, bottom) = _corners(row)
        ring = np.array([left, top, right, top, right, bottom, left, bottom])
    return _shares(ring.reshape(-1, 2), sides).ravel()


def _pose(row: _Row, sides: _Points) -> _Points:
    points = np.array(row["keypoints"] or (), np.float64).reshape(-1, 3)
    shown = np.isfinite(points).all(axis=1) & (points[:, 2] >= VISIBLE)
    places = np.where(shown[:, None], points[:, :2], 0)
    return np.concatenate([_box(row, sides), np.column_stack([_shares(places, sides), 2.0 * shown]).ravel()])


_SHAPES: dict[str, Callable[[_Row, _Points], _Points]] = {
    "detect": _box,
    "segment": _outline,
    "pose": _pose,
    "obb": _outline,
}


def _shares(points: _Points, sides: _Points) -> _Points:
    """Return points [k, 2] in pixels as shares of the image, clipped to it: trainers refuse others."""
    return np.clip(points / sides, 0, 1)


def _numbers(values: _Points) -> str:
    return " ".join(f"{value:.6g}" for value in values.tolist())

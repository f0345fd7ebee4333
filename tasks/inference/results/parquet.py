"""Detections as Parquet tables: the columns of the contract, and their files."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.inference.results.summary import to_valid_unicode
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections, class_name
from tasks.vision.geometry import Floats

ROW_GROUP_SIZE = 20_000
Rows = Sequence[Mapping[str, Any]]  # of predictions.parquet
_BOX = ("x1", "y1", "x2", "y2")

_DETECTION = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("frame", pa.int64()),
    pa.field("timestamp_ms", pa.float64()),
    pa.field("class_id", pa.int32(), nullable=False),
    pa.field("class_name", pa.string(), nullable=False),
    pa.field("confidence", pa.float32(), nullable=False),
    pa.field("x1", pa.float32(), nullable=False),
    pa.field("y1", pa.float32(), nullable=False),
    pa.field("x2", pa.float32(), nullable=False),
    pa.field("y2", pa.float32(), nullable=False),
    pa.field("model_name", pa.string(), nullable=False),
    pa.field("model_version", pa.int64(), nullable=False),
]
_NUMBERS = pa.list_(pa.float32())
_OF_TASK = {"segment": ("polygon",), "pose": ("keypoints",), "obb": ("polygon", "rotated")}

IMAGES_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("frame", pa.int64()),
        pa.field("timestamp_ms", pa.float64()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("detections", pa.int64(), nullable=False),
        pa.field("model_version", pa.int64(), nullable=False),
        pa.field("image", pa.string()),
    ]
)


def schema(task: str, tracked: bool) -> pa.Schema:
    """Return the columns of predictions.parquet for a model of `task`, in a run that tracks objects or does not.

    After the contract's: `polygon` (x, y, x, y ...; segment and obb), `keypoints` (x, y, visibility ...; pose),
    `rotated` (centre x, y, width, height, radians; obb) and `track_id` (null for an object that is not tracked).
    """
    fields = [*_DETECTION, *(pa.field(name, _NUMBERS) for name in _OF_TASK.get(task, ()))]
    return pa.schema([*fields, pa.field("track_id", pa.int64())] if tracked else fields)


def to_table(detections: Iterable[Detections], model: ServedModel, columns: pa.Schema) -> pa.Table:
    """Return a row for each detection, in the order of the images, with the `columns` of `schema`."""
    images = [each for each in detections if len(each)]
    counts = np.array([len(each) for each in images], np.int64)
    owner = np.repeat(np.arange(len(images)), counts)
    ids = _joined([each.class_id for each in images], np.zeros(0, np.int32))
    boxes = _joined([each.xyxy for each in images], np.zeros((0, 4), np.float32)).T
    confidence = _joined([each.confidence for each in images], np.zeros(0, np.float32))
    values = {name: column.take(owner) for name, column in _places(images).items()}
    values |= dict(zip(_BOX, map(pa.array, boxes), strict=True))
    values |= {"class_id": pa.array(ids), "class_name": _names(ids, model), "confidence": pa.array(confidence)}
    values |= _of_model(model, len(ids))
    for name in columns.names[len(_DETECTION) :]:
        values[name] = _OWN[name](images)
    return pa.Table.from_arrays([values[name] for name in columns.names], schema=columns)


def to_detections(rows: Rows, width: int, height: int, source: str = "") -> Detections:
    """Return the rows of an image of `width` x `height` pixels, with what they have beside boxes."""
    own: dict[str, Any] = {}
    if any("polygon" in row for row in rows):
        own["polygons"] = tuple(np.array(row["polygon"] or (), np.float32).reshape(-1, 2) for row in rows)
    if any("keypoints" in row for row in rows):
        own["keypoints"] = np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), -1, 3)
    return Detections(
        width=width,
        height=height,
        xyxy=np.array([[row[side] for side in _BOX] for row in rows], np.float32).reshape(-1, 4),
        confidence=np.array([row["confidence"] for row in rows], np.float32),
        class_id=np.array([row["class_id"] for row in rows], np.int32),
        source=source,
        **own,
    )


def to_image_table(detections: Iterable[Detections], model: ServedModel) -> pa.Table:
    """Return a row for each image or frame (`IMAGES_SCHEMA`), also for those without detections."""
    images = list(detections)
    values = _places(images) | _of_model(model, len(images))
    values["width"] = pa.array([each.width for each in images], pa.int32())
    values["height"] = pa.array([each.height for each in images], pa.int32())
    values["detections"] = pa.array([len(each) for each in images], pa.int64())
    values["image"] = pa.array([each.image for each in images], pa.string())
    return pa.Table.from_arrays([values[name] for name in IMAGES_SCHEMA.names], schema=IMAGES_SCHEMA)


class ParquetTableWriter:
    """A context that writes tables into one Parquet file, in row groups of `ROW_GROUP_SIZE` rows or a little more."""

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self.columns = columns
        self._writer = pq.ParquetWriter(path, columns, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def add(self, table: pa.Table) -> None:
        """Append the rows of a table of the file's schema."""
        if table.num_rows:
            self._waiting.append(table)
            self._rows += table.num_rows
        if self._rows >= ROW_GROUP_SIZE:
            self.flush()

    def flush(self) -> None:
        """End the row group."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []
        self._rows = 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._writer.close()


def _places(images: Sequence[Detections]) -> dict[str, Any]:
    return {
        "source": pa.array([to_valid_unicode(each.source) for each in images], pa.string()),
        "frame": pa.array([each.frame for each in images], pa.int64()),
        "timestamp_ms": pa.array([each.timestamp_ms for each in images], pa.float64()),
    }


def _of_model(model: ServedModel, count: int) -> dict[str, Any]:
    version = pa.repeat(pa.scalar(model.version, pa.int64()), count)
    return {"model_name": pa.repeat(model.name, count), "model_version": version}


def _names(ids: NDArray[np.int32], model: ServedModel) -> pa.Array:
    known, place = np.unique(ids, return_inverse=True)
    names = [to_valid_unicode(class_name(model.class_names, number)) for number in known.tolist()]
    return pa.array(names, pa.string()).take(pa.array(place))


def _joined(arrays: Sequence[NDArray[Any]], nothing: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([nothing, *arrays]).astype(nothing.dtype, copy=False)


def _lists(images: Sequence[Detections], blocks: Sequence[Sequence[Floats] | Floats | None]) -> pa.Array:
    """Return the numbers of each detection as a list, or null if its image has none."""
    rows = list(
        chain.from_iterable(
            repeat(None, len(image)) if block is None else block for image, block in zip(images, blocks, strict=True)
        )
    )
    lengths = [0 if row is None else row.size for row in rows]
    ends = np.cumsum([0, *lengths], dtype=np.int32)
    values = _joined([row.ravel() for row in rows if row is not None], np.zeros(0, np.float32))
    missing = pa.array([row is None for row in rows], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values), mask=missing)


def _tracks(images: Sequence[Detections]) -> pa.Array:
    ids = [np.zeros(len(each), np.int64) if each.tracker_id is None else each.tracker_id for each in images]
    tracks = _joined(ids, np.zeros(0, np.int64))
    return pa.array(tracks, mask=tracks == 0)


_OWN = {
    "polygon": lambda images: _lists(images, [each.polygons for each in images]),
    "keypoints": lambda images: _lists(images, [each.keypoints for each in images]),
    "rotated": lambda images: _lists(images, [each.xywhr for each in images]),
    "track_id": _tracks,
}

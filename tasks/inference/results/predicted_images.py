"""What a published run of inference has found in its images, one image after another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.inference.results.chunk_reader import FAILURES, PICTURES, PREDICTIONS
from tasks.inference.results.summary import ERROR, Failure

_BATCH = 4096
_Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictedImage:
    """An image of `width` x `height` pixels, and the rows of its detections in predictions.parquet, best first."""

    source: str
    width: int
    height: int
    model_version: int
    rows: list[_Row]


def read_predicted_images(folder: Path) -> Iterator[PredictedImage]:
    """Yield the images of the results in a folder, in memory that does not grow with them; no frames of videos."""
    with pq.ParquetFile(folder / PICTURES) as pictures, pq.ParquetFile(folder / PREDICTIONS) as predictions:
        rows = _rows(predictions)
        for picture in _rows(pictures):
            own = [next(rows) for _ in range(picture["detections"])]
            if picture["frame"] is None:
                shown = {name: picture[name] for name in ("source", "width", "height", "model_version")}
                yield PredictedImage(**shown, rows=own)


def read_failures(folder: Path) -> Iterator[Failure]:
    """Yield the inputs of the results in a folder that failed, if only in part."""
    with (folder / FAILURES).open("rb") as lines:
        yield from (failure for failure in map(Failure.from_line, lines) if failure.severity == ERROR)


def _rows(file: pq.ParquetFile) -> Iterator[_Row]:
    batch: pa.RecordBatch
    for batch in file.iter_batches(_BATCH):
        yield from batch.to_pylist()

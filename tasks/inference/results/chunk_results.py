"""The results of a run of inference: one part a chunk, by any worker, and all parts merged at the end."""

import json
import shutil
import time
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.inference.results import parquet
from tasks.inference.results.chunk_reader import (
    FAILURES,
    FILES,
    ITEMS,
    METADATA_FILE,
    PICTURES,
    PREDICTIONS,
    ChunkResult,
    ChunkResultError,
    chunk_result_name,
)
from tasks.inference.results.coco import CocoWriter
from tasks.inference.results.parquet import ROW_GROUP_SIZE, ParquetTableWriter, schema, to_image_table, to_table
from tasks.inference.results.summary import (
    ERROR,
    Failure,
    GalleryItem,
    InferenceSummary,
    IntervalUnion,
    RunTotals,
    to_valid_unicode,
)
from tasks.inference.results.yolo_labels import DATA_YAML, LABEL_TASKS, keypoint_count, to_data_yaml, write_labels
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections, class_name

MAX_FAILURES = 1000

_COCO = "coco.json"
_COCO_FRAMES = "coco-frames.json"


class ChunkResultWriter:
    """A context that writes the part of one chunk: a stored zip, whole at `path` (below `folder`) after the block.

    A block that raises leaves nothing. Rows go to disk in groups, so memory does not grow with the length of a video.
    `tracked` adds a column `track_id`. Images with a copy in `image_folder` get YOLO labels there.
    """

    def __init__(
        self, folder: Path, chunk: int, model: ServedModel, *, tracked: bool = False, image_folder: Path | None = None
    ) -> None:
        self.path = folder / chunk_result_name(chunk)
        self._folder = image_folder
        self._work = folder / f".{self.path.stem}.part"
        self._chunk = chunk
        self._model = model
        self._columns = schema(model.task, tracked)
        self._files = ExitStack()
        self._tally = RunTotals()
        self._sources: set[str] = set()
        self._failed: set[str] = set()
        self._waiting: list[Detections] = []
        self._rows = 0

    def __enter__(self) -> Self:
        self._started = time.time()
        self._clock = time.monotonic()
        shutil.rmtree(self._work, ignore_errors=True)  # of an attempt before
        self._work.mkdir(parents=True)
        self._predictions = self._files.enter_context(ParquetTableWriter(self._work / PREDICTIONS, self._columns))
        self._images = self._files.enter_context(ParquetTableWriter(self._work / PICTURES, parquet.IMAGES_SCHEMA))
        self._items = self._files.enter_context((self._work / ITEMS).open("wb"))
        self._failures = self._files.enter_context((self._work / FAILURES).open("wb"))
        return self

    def add(self, detections: Detections) -> None:
        """Write one image or frame, also one without detections."""
        self._sources.add(detections.source)
        self._waiting.append(detections)
        self._rows += len(detections)
        if max(self._rows, len(self._waiting)) >= ROW_GROUP_SIZE:
            self._flush()

    def item(self, item: GalleryItem) -> None:
        """Write one item of the gallery."""
        self._sources.add(item.source)
        self._tally.videos += item.kind == "video"
        self._items.write(_line(item))

    def fail(self, failure: Failure) -> None:
        """Write one failure; an input may have several, and detections beside them."""
        if failure.severity == ERROR:
            self._sources.add(failure.source)
            self._failed.add(failure.source)
        self._tally.failure_count += 1
        self._failures.write(_line(failure))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._files:
                if kind is None:
                    self._flush()
            if kind is None:
                self._commit()
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def _flush(self) -> None:
        rows = to_table(self._waiting, self._model, self._columns)
        # One row group each: a reader of a group of pictures finds their rows in the next group with any.
        self._predictions.add(rows)
        self._predictions.flush()
        images = to_image_table(self._waiting, self._model)
        self._images.add(images)
        self._images.flush()
        if self._folder:
            write_labels(self._folder, self._model.task, images, rows, rows["class_id"].to_pylist())
        frames = sum(detections.frame is not None for detections in self._waiting)
        self._tally.frames += frames
        self._tally.images += len(self._waiting) - frames
        for counted in pc.value_counts(rows["class_name"]).to_pylist():
            self._tally.classes[counted["values"]] += counted["counts"]
        self._tally.count_confidences(rows["confidence"].to_numpy())
        self._waiting = []
        self._rows = 0

    def _commit(self) -> None:
        (self._work / METADATA_FILE).write_text(json.dumps(self._about()), encoding="utf-8")
        whole = self._work / self.path.name
        with zipfile.ZipFile(whole, "w") as file:
            for name in FILES:
                file.write(self._work / name, name)
        whole.replace(self.path)

    def _about(self) -> dict[str, Any]:
        totals = replace(self._tally, inputs=len(self._sources), failed_inputs=len(self._failed))
        return {
            "chunk": self._chunk,
            "model_name": self._model.name,
            "model_version": self._model.version,
            "task": self._model.task,
            "class_names": [to_valid_unicode(name) for name in self._model.class_names],
            "image_size": self._model.image_size,
            "run_id": self._model.run_id,
            "started": self._started,
            "seconds": time.monotonic() - self._clock,
            "totals": totals.to_json(),
        }


def merge_chunk_results(parts: Iterable[Path], folder: Path) -> InferenceSummary:
    """Merge the parts of a run, in the order of their chunks, into `folder`, in memory that does not grow with them.

    `predictions.parquet`, `pictures.parquet`, `coco.json`, `failures.jsonl` and `items.jsonl` get their names together
    at the end. If images have plain copies, `coco.json` names only these, and `coco-frames.json` the others; if copies
    have labels, there is `data.yaml`. A part may be removed once the next is taken. Class ids in `items.jsonl`,
    `coco.json` and `labels/` are indices of the summary's `class_names`, those in `predictions.parquet` the version's
    own; labels with other ids are written again below `folder`.

    Raises:
        ChunkResultError: A part is damaged, comes out of order, or has other columns than the first.
    """
    work = folder / ".merge"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with ExitStack() as files:
            merge = _Merge(work, folder, files)
            for path in parts:
                merge.add(ChunkResult.unpacked(path, work / "part"))
            merge.finish()
        for name, written in merge.written.items():
            (work / written).replace(folder / name)
        return merge.summary()
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Merge:
    """The files of a run while parts are appended, in `folder`; `files` closes them.

    Labels that have to be written again go to `results`. `written` maps each result to its name in `folder`.
    """

    def __init__(self, folder: Path, results: Path, files: ExitStack) -> None:
        self.written = {name: name for name in (PREDICTIONS, PICTURES, _COCO, FAILURES, ITEMS)}
        self._folder = folder
        self._results = results
        self._files = files
        self._coco = files.enter_context(CocoWriter(folder / _COCO))
        self._coco_frames = files.enter_context(CocoWriter(folder / _COCO_FRAMES, self._coco.categories))
        self._images = files.enter_context(ParquetTableWriter(folder / PICTURES, parquet.IMAGES_SCHEMA))
        self._items = files.enter_context((folder / ITEMS).open("wb"))
        self._failures = files.enter_context((folder / FAILURES).open("wb"))
        self._predictions: ParquetTableWriter | None = None
        self._tally = RunTotals()
        self._busy = IntervalUnion()
        self._versions: set[int] = set()
        self._kept: list[Failure] = []
        self._last = -1
        self._labelled = False
        self._keypoints = 0

    def add(self, part: ChunkResult) -> None:
        if part.chunk <= self._last:
            raise ChunkResultError(
                f"expected the parts in order, each once, found {part.name} after {chunk_result_name(self._last)}; "
                "list them by name"
            )
        predictions = self._table(part)
        for name in part.class_names:
            self._coco.category(name)
        renumbered = self._is_renumbered(part)
        for images, rows in part.groups():
            predictions.add(rows)
            self._images.add(images)
            ids = self._add_coco(images, rows)
            if renumbered:
                write_labels(self._results, part.task, images, rows, ids)
            self._labelled |= part.task in LABEL_TASKS and images["image"].null_count < images.num_rows
            self._keypoints = max(self._keypoints, keypoint_count(rows))
        self._add_lines(part, renumbered)
        self._tally.add(part.totals)
        self._busy.add(part.started, part.started + part.seconds)
        self._versions.add(part.version)
        self._last = part.chunk

    def _add_coco(self, images: pa.Table, rows: pa.Table) -> list[int]:
        """Return the category ids of all rows; images without a plain copy, which no tool can open, go apart."""
        has_copy = images["image"].is_valid().to_numpy()
        of_copies = np.repeat(has_copy, images["detections"].to_numpy())
        ids = np.zeros(rows.num_rows, np.int64)
        for writer, chosen, own in ((self._coco, has_copy, of_copies), (self._coco_frames, ~has_copy, ~of_copies)):
            if chosen.any():
                ids[own] = writer.add(images.filter(chosen), rows.filter(own))
        return [int(number) for number in ids]

    def finish(self) -> None:
        if self._predictions is None:
            self._open(schema("detect", tracked=False))
        if self._labelled:
            text = to_data_yaml(list(self._coco.categories), self._keypoints)
            (self._folder / DATA_YAML).write_text(text, encoding="utf-8")
            self.written[DATA_YAML] = DATA_YAML
        if self._coco_frames.images:
            self.written[_COCO_FRAMES if self._coco.images else _COCO] = _COCO_FRAMES

    def summary(self) -> InferenceSummary:
        totals = vars(self._tally) | {
            "classes": dict(self._tally.classes.most_common()),
            "histogram": tuple(self._tally.histogram),
        }
        return InferenceSummary(
            **totals,
            detections=self._tally.classes.total(),
            seconds=self._busy.seconds,
            failures=tuple(self._kept),
            versions=tuple(sorted(self._versions)),
            class_names=tuple(self._coco.categories),
        )

    def _table(self, part: ChunkResult) -> ParquetTableWriter:
        columns = part.columns()
        table = self._predictions or self._open(columns)
        if table.columns != columns:
            expected, found = (", ".join(each.names) for each in (table.columns, columns))
            raise ChunkResultError(
                f"expected the columns {expected} in {part.name} as in the parts before it, found {found}: a model of "
                "another task was deployed during the run; start a new one"
            )
        return table

    def _open(self, columns: pa.Schema) -> ParquetTableWriter:
        self._predictions = self._files.enter_context(ParquetTableWriter(self._folder / PREDICTIONS, columns))
        return self._predictions

    def _is_renumbered(self, part: ChunkResult) -> bool:
        """Whether the classes of the part have other ids in the merged list than in its own."""
        ids = [self._coco.category(name) for name in part.class_names]
        return ids != list(range(len(ids))) or not part.totals.classes.keys() <= set(part.class_names)

    def _add_lines(self, part: ChunkResult, renumbered: bool) -> None:
        with (part.folder / FAILURES).open("rb") as lines:
            for line in lines:
                self._failures.write(line)
                if len(self._kept) < MAX_FAILURES:
                    self._kept.append(Failure.from_line(line))
        with (part.folder / ITEMS).open("rb") as lines:
            for line in lines:
                self._items.write(self._renumber(line, part) if renumbered else line)

    def _renumber(self, line: bytes, part: ChunkResult) -> bytes:
        values = json.loads(line)
        for each in values["classes"]:
            each[0] = self._coco.category(class_name(part.class_names, each[0]))
        return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"


def _line(value: GalleryItem | Failure) -> bytes:
    return value.to_line().encode("ascii") + b"\n"

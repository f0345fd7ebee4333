"""What a run of inference writes: one part a chunk, by whichever worker, and all parts merged at the end."""

import json
import shutil
import time
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
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

_COCO, _COCO_FRAMES = "coco.json", "coco-frames.json"


class ChunkResultWriter:
    """A context that writes the part of one chunk: a zip, stored, whole at `path` (below `folder`) after the block.

    Nothing is under that name before, and nothing is left of a block that raises. Rows go to disk in groups, so memory
    does not grow with the length of a video. `tracked` says that there is a column `track_id`. Pictures that have a
    plain copy get their YOLO labels in `pictures`, the folder in which the copies lie.
    """

    def __init__(
        self, folder: Path, chunk: int, model: ServedModel, *, tracked: bool = False, pictures: Path | None = None
    ) -> None:
        self.path = folder / chunk_result_name(chunk)
        self._folder = pictures
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
        """Open the files; what another attempt left goes."""
        self._started, self._clock = time.time(), time.monotonic()
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._predictions = self._files.enter_context(ParquetTableWriter(self._work / PREDICTIONS, self._columns))
        self._pictures = self._files.enter_context(ParquetTableWriter(self._work / PICTURES, parquet.IMAGES_SCHEMA))
        self._items = self._files.enter_context((self._work / ITEMS).open("wb"))
        self._failures = self._files.enter_context((self._work / FAILURES).open("wb"))
        return self

    def add(self, found: Detections) -> None:
        """Write down one picture, also one in which nothing was found."""
        self._sources.add(found.source)
        self._waiting.append(found)
        self._rows += len(found)
        if max(self._rows, len(self._waiting)) >= ROW_GROUP_SIZE:
            self._flush()

    def item(self, item: GalleryItem) -> None:
        """Write down one image or video for people to look at."""
        self._sources.add(item.source)
        self._tally.videos += item.kind == "video"
        self._items.write(_line(item))

    def fail(self, failure: Failure) -> None:
        """Write down one failure; an input may have several, and detections beside them."""
        if failure.severity == ERROR:
            self._sources.add(failure.source)
            self._failed.add(failure.source)
        self._tally.failure_count += 1
        self._failures.write(_line(failure))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the part its name, unless the block raised; remove everything else."""
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
        pictures = to_image_table(self._waiting, self._model)
        self._pictures.add(pictures)
        self._pictures.flush()
        if self._folder:
            write_labels(self._folder, self._model.task, pictures, rows, rows["class_id"].to_pylist())
        frames = sum(found.frame is not None for found in self._waiting)
        self._tally.frames += frames
        self._tally.images += len(self._waiting) - frames
        for counted in pc.value_counts(rows["class_name"]).to_pylist():
            self._tally.classes[counted["values"]] += counted["counts"]
        self._tally.count_confidences(rows["confidence"].to_numpy())
        self._waiting, self._rows = [], 0

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

    Written are `predictions.parquet`, `pictures.parquet`, `coco.json`, `failures.jsonl` and `items.jsonl`: all of them
    at the end, or none. Where pictures have plain copies `coco.json` names only these, the others are in
    `coco-frames.json`, and where copies have labels there is `data.yaml`. A part is read before the next is asked for,
    and may be gone by then. Class ids in `items.jsonl`, `coco.json` and `labels/` are places in the summary's
    `class_names`, those in `predictions.parquet` the answering version's own. Labels that another version wrote, with
    other ids, are written anew below `folder`.
    Raises PartError for a part that is damaged, comes out of order, or has other columns than the first.
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

    Labels that have to be written anew go to `results`. `written` holds the names of the results, and what each
    is called in `folder`.
    """

    def __init__(self, folder: Path, results: Path, files: ExitStack) -> None:
        self.written = {name: name for name in (PREDICTIONS, PICTURES, _COCO, FAILURES, ITEMS)}
        self._folder, self._results = folder, results
        self._files = files
        self._coco = files.enter_context(CocoWriter(folder / _COCO))
        self._coco_frames = files.enter_context(CocoWriter(folder / _COCO_FRAMES, self._coco.categories))
        self._pictures = files.enter_context(ParquetTableWriter(folder / PICTURES, parquet.IMAGES_SCHEMA))
        self._items = files.enter_context((folder / ITEMS).open("wb"))
        self._failures = files.enter_context((folder / FAILURES).open("wb"))
        self._predictions: ParquetTableWriter | None = None
        self._tally = RunTotals()
        self._busy = IntervalUnion()
        self._versions: set[int] = set()
        self._kept: list[Failure] = []
        self._last = -1
        self._labelled, self._keypoints = False, 0

    def add(self, part: ChunkResult) -> None:
        """Append a part."""
        if part.chunk <= self._last:
            raise ChunkResultError(
                f"expected the parts in order, each once, found {part.name} after {chunk_result_name(self._last)}; "
                "list them by name"
            )
        predictions = self._table(part)
        for name in part.class_names:
            self._coco.category(name)
        moved = self._is_moved(part)
        for pictures, rows in part.groups():
            predictions.add(rows)
            self._pictures.add(pictures)
            ids = self._add_coco(pictures, rows)
            if moved:
                write_labels(self._results, part.task, pictures, rows, ids)
            self._labelled |= part.task in LABEL_TASKS and pictures["image"].null_count < pictures.num_rows
            self._keypoints = max(self._keypoints, keypoint_count(rows))
        self._add_lines(part, moved)
        self._tally.add(part.totals)
        self._busy.add(part.started, part.started + part.seconds)
        self._versions.add(part.version)
        self._last = part.chunk

    def _add_coco(self, pictures: pa.Table, rows: pa.Table) -> list[int]:
        """Tools stumble over an image of which there is no file, so the others go apart; return all category ids."""
        kept = pictures["image"].is_valid().to_numpy()
        of_kept = np.repeat(kept, pictures["detections"].to_numpy())
        ids = np.zeros(rows.num_rows, np.int64)
        for writer, which, mine in ((self._coco, kept, of_kept), (self._coco_frames, ~kept, ~of_kept)):
            if which.any():
                ids[mine] = writer.add(pictures.filter(which), rows.filter(mine))
        return [int(number) for number in ids]

    def finish(self) -> None:
        """Leave empty tables where there was no part, and name the classes of the labels."""
        if self._predictions is None:
            self._open(schema("detect", tracked=False))
        if self._labelled:
            text = to_data_yaml(list(self._coco.categories), self._keypoints)
            (self._folder / DATA_YAML).write_text(text, encoding="utf-8")
            self.written[DATA_YAML] = DATA_YAML
        if self._coco_frames.images:
            self.written[_COCO_FRAMES if self._coco.images else _COCO] = _COCO_FRAMES

    def summary(self) -> InferenceSummary:
        """Return the totals of all parts."""
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
            before, now = (", ".join(each.names) for each in (table.columns, columns))
            raise ChunkResultError(
                f"expected the columns {before} in {part.name} as in the parts before it, found {now}: a model of "
                "another task was deployed during the run; start a new one"
            )
        return table

    def _open(self, columns: pa.Schema) -> ParquetTableWriter:
        self._predictions = self._files.enter_context(ParquetTableWriter(self._folder / PREDICTIONS, columns))
        return self._predictions

    def _is_moved(self, part: ChunkResult) -> bool:
        """Whether the classes of the part have other places in the merged list than in its own."""
        places = [self._coco.category(name) for name in part.class_names]
        return places != list(range(len(places))) or not part.totals.classes.keys() <= set(part.class_names)

    def _add_lines(self, part: ChunkResult, moved: bool) -> None:
        with (part.folder / FAILURES).open("rb") as lines:
            for line in lines:
                self._failures.write(line)
                if len(self._kept) < MAX_FAILURES:
                    self._kept.append(Failure.from_line(line))
        with (part.folder / ITEMS).open("rb") as lines:
            for line in lines:
                self._items.write(self._renumbered(line, part) if moved else line)

    def _renumbered(self, line: bytes, part: ChunkResult) -> bytes:
        def place(class_id: int) -> int:
            return self._coco.category(class_name(part.class_names, class_id))

        return GalleryItem.renumbered(line, place).encode("ascii") + b"\n"


def _line(value: GalleryItem | Failure) -> bytes:
    return value.to_line().encode("ascii") + b"\n"

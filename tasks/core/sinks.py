"""Where results go while a run is on: files that are whole at every moment somebody may look."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import pyarrow.parquet as pq

from tasks.core.coco import annotation_entries, categories, image_entry
from tasks.core.detections import SCHEMA, Detections, to_table
from tasks.core.served import ServedModel
from tasks.core.summary import Failure

ROWS_A_GROUP = 20_000


class CocoWriter:
    """A context that writes `coco.json` picture by picture; annotations wait in a second file until the end."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path = path
        self._names = names
        self._images_path = path.with_name(f".{path.name}.part")
        self._annotations_path = path.with_name(f".{path.name}.annotations.part")
        self._image_count = 0
        self._annotation_count = 0
        self._files = ExitStack()

    def __enter__(self) -> Self:
        """Open the files."""
        self._images = self._files.enter_context(self._images_path.open("w", encoding="utf-8"))
        self._annotations = self._files.enter_context(self._annotations_path.open("w+", encoding="utf-8"))
        self._images.write('{"images": [')
        return self

    def write(self, found: Detections) -> None:
        """Append one picture, numbered from 1."""
        _write_entries(self._images, [image_entry(found, self._image_count + 1)], first=self._image_count == 0)
        self._image_count += 1
        entries = annotation_entries(found, self._image_count, self._annotation_count + 1)
        _write_entries(self._annotations, entries, first=self._annotation_count == 0)
        self._annotation_count += len(entries)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the files and give them their names, after an error too."""
        with self._files:
            self._images.write('\n], "annotations": [')
            self._annotations.seek(0)
            while block := self._annotations.read(1 << 20):
                self._images.write(block)
            self._images.write(f'\n], "categories": {json.dumps(categories(self._names))}}}\n')
        self._annotations_path.unlink()
        self._images_path.replace(self._path)


class ParquetSink:
    """A context that writes `predictions.parquet`; a block that raises leaves a whole file of what came before."""

    def __init__(self, path: Path, model: ServedModel) -> None:
        self._path = path
        self._model = model
        self._temporary = path.with_name(f".{path.name}.part")
        self._waiting: list[Detections] = []
        self._rows = 0

    def __enter__(self) -> Self:
        """Open the files."""
        self._writer = pq.ParquetWriter(self._temporary, SCHEMA, compression="zstd")
        return self

    def write(self, found: Detections) -> None:
        """Append the detections of one picture."""
        if len(found):
            self._waiting.append(found)
            self._rows += len(found)
        if self._rows >= ROWS_A_GROUP:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the files and give them their names, after an error too."""
        try:
            self._flush()
        finally:
            self._writer.close()
        self._temporary.replace(self._path)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(to_table(self._waiting, self._model))
        self._waiting, self._rows = [], 0


class Results:
    """A context over the tables of a run: `predictions.parquet`, `coco.json` and `failures.jsonl` in one folder."""

    def __init__(self, folder: Path, model: ServedModel) -> None:
        self._folder = folder
        self._model = model
        self._files = ExitStack()

    def __enter__(self) -> Self:
        """Open the files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        parquet = ParquetSink(self._folder / "predictions.parquet", self._model)
        self._parquet = self._files.enter_context(parquet)
        self._coco = self._files.enter_context(CocoWriter(self._folder / "coco.json", self._model.class_names))
        failures = (self._folder / "failures.jsonl").open("w", encoding="utf-8")
        self._failures = self._files.enter_context(failures)
        return self

    def add(self, found: Detections) -> None:
        """Write down one picture."""
        self._parquet.write(found)
        self._coco.write(found)

    def fail(self, failure: Failure) -> None:
        """Write down one failure, at once: a crash right after keeps it."""
        self._failures.write(json.dumps({"input": failure.source, "reason": failure.reason}) + "\n")
        self._failures.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the files and give them their names, after an error too."""
        self._files.__exit__(kind, error, trace)


def _write_entries(file: TextIO, entries: Sequence[dict[str, Any]], *, first: bool) -> None:
    for index, entry in enumerate(entries):
        file.write("\n" if first and index == 0 else ",\n")
        file.write(json.dumps(entry))

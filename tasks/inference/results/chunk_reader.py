"""The zip of results of one chunk of a run: the names in it, and how it is read."""

import errno
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import StudioError
from tasks.inference.results.summary import RunTotals

PREDICTIONS = "predictions.parquet"
PICTURES = "pictures.parquet"
ITEMS = "items.jsonl"
FAILURES = "failures.jsonl"
METADATA_FILE = "part.json"
FILES = PREDICTIONS, PICTURES, ITEMS, FAILURES, METADATA_FILE

# The errors that zipfile, json and pyarrow raise on damaged bytes.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pa.ArrowException),
    *(EOFError, ValueError, LookupError, RuntimeError, TypeError),
)


class ChunkResultError(StudioError):
    """A part that no worker of this run wrote like this; the message names it."""


def chunk_result_name(chunk: int) -> str:
    """Return the file name of the part of a chunk, which counts from 0."""
    return f"{chunk:06d}.zip"


@dataclass(frozen=True, kw_only=True)
class ChunkResult:
    """A part whose checksums are right, unpacked into `folder`; `name` is that of its zip."""

    name: str
    folder: Path
    chunk: int
    task: str
    version: int
    class_names: list[str]
    started: float
    seconds: float
    totals: RunTotals

    @classmethod
    def unpacked(cls, path: Path, folder: Path) -> Self:
        """Unpack a part over the one before it.

        Raises:
            ChunkResultError: The part is damaged.
        """  # noqa: DOC501 - what is raised inside becomes this error
        with _damage_named(path.name):
            with zipfile.ZipFile(path) as file:
                for name in FILES:
                    if file.getinfo(name).compress_type != zipfile.ZIP_STORED:
                        raise zipfile.BadZipFile(f"{name} compressed")
                    file.extract(name, folder)
            about = json.loads((folder / METADATA_FILE).read_bytes())
            return cls(
                name=path.name,
                folder=folder,
                chunk=about["chunk"],
                task=about["task"],
                version=about["model_version"],
                class_names=about["class_names"],
                started=about["started"],
                seconds=about["seconds"],
                totals=RunTotals.from_json(about["totals"]),
            )

    def columns(self) -> pa.Schema:
        """Return the columns of its predictions."""
        with _damage_named(self.name):
            return pq.read_schema(self.folder / PREDICTIONS)

    def groups(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield images with all their rows, a row group at a time; a ChunkResultError says that the part is damaged."""
        with (
            _damage_named(self.name),
            pq.ParquetFile(self.folder / PREDICTIONS) as predictions,
            pq.ParquetFile(self.folder / PICTURES) as images,
        ):
            done = 0
            for number in range(images.num_row_groups):
                group = images.read_row_group(number)
                count = pc.sum(group["detections"]).as_py()
                rows = predictions.read_row_group(done) if count else predictions.schema_arrow.empty_table()
                done += count > 0
                if rows.num_rows != count:
                    raise ValueError(f"{rows.num_rows} rows for pictures with {count} detections")
                yield group, rows
            if done != predictions.num_row_groups:
                raise ValueError(f"{predictions.num_row_groups} groups of rows for {done} of pictures")


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        # EINVAL is an offset before the beginning of the file, None pyarrow's own; any other is the disk's fault.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise
        found = f"{type(error).__name__}: {error}"[:300]
        raise ChunkResultError(
            f"expected a whole part of this run in {name}, found {found}; delete it below parts/ of this run in bucket "
            "runs and retry the run, which makes it again"
        ) from error

"""The zip that holds what was found in one chunk of a run: the names in it, and how it is read."""

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

PREDICTIONS, PICTURES, ITEMS, FAILURES = "predictions.parquet", "pictures.parquet", "items.jsonl", "failures.jsonl"
METADATA_FILE = "part.json"
FILES = PREDICTIONS, PICTURES, ITEMS, FAILURES, METADATA_FILE

# What zipfile, json and pyarrow were seen to raise on damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    pa.ArrowException,
)


class ChunkResultError(StudioError):
    """A part that is not what a worker of this run wrote; the message names it."""


def chunk_result_name(chunk: int) -> str:
    """Return the file name of the part of a chunk, which counts from 0."""
    return f"{chunk:06d}.zip"


@dataclass(frozen=True)
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
        """Unpack a part over the one before."""
        with _named(path.name):
            with zipfile.ZipFile(path) as file:
                for name in FILES:
                    if file.getinfo(name).compress_type != zipfile.ZIP_STORED:
                        raise zipfile.BadZipFile(f"{name} compressed")
                    file.extract(name, folder)
            about = json.loads((folder / METADATA_FILE).read_bytes())
            totals = RunTotals.from_json(about["totals"])
            place = about["chunk"], about["task"], about["model_version"], about["class_names"]
            return cls(path.name, folder, *place, about["started"], about["seconds"], totals)

    def columns(self) -> pa.Schema:
        """Return the columns of its predictions."""
        with _named(self.name):
            return pq.read_schema(self.folder / PREDICTIONS)

    def groups(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield pictures with all their rows, some at a time."""
        with (
            _named(self.name),
            pq.ParquetFile(self.folder / PREDICTIONS) as predictions,
            pq.ParquetFile(self.folder / PICTURES) as pictures,
        ):
            done = 0
            for number in range(pictures.num_row_groups):
                group = pictures.read_row_group(number)
                wanted = pc.sum(group["detections"]).as_py()
                rows = predictions.read_row_group(done) if wanted else predictions.schema_arrow.empty_table()
                done += wanted > 0
                if rows.num_rows != wanted:
                    raise ValueError(f"{rows.num_rows} rows for pictures with {wanted} detections")
                yield group, rows
            if done != predictions.num_row_groups:
                raise ValueError(f"{predictions.num_row_groups} groups of rows for {done} of pictures")


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    except OSError as error:
        # A place before the beginning of the file, or pyarrow's own; any other is the disk's fault.
        if error.errno not in {None, errno.EINVAL}:
            raise
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ChunkResultError:
    found = f"{type(error).__name__}: {error}"[:300]
    return ChunkResultError(
        f"expected a whole part of this run in {name}, found {found}; delete it below parts/ of this run in bucket "
        "runs and retry the run, which makes it again"
    )

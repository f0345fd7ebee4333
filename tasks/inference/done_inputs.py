"""Which inputs a version of a model has done: `inputs.parquet` of each run that succeeded, found by version.

The record of a run lies with its results, and goes with them. An empty object in bucket `runs`,
`done-inputs/<model>/<version>/<flow run id>`, says where to look.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.inference.results.chunk_reader import FAILURES, PICTURES
from tasks.inference.results.parquet import ParquetTableWriter
from tasks.inference.results.summary import Failure, to_valid_unicode
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.media.file_type import MediaKind
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import TRANSFERS, StorageError

RECORD = "inputs.parquet"

_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("model_version", pa.int64(), nullable=False),
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("entry", pa.int32()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
_PLACE = "bucket", "key", "entry", "etag", "size"
_PREDICTIONS = ObjectStore(Bucket.PREDICTIONS)
_RUNS = ObjectStore(Bucket.RUNS)
DoneInputs = Mapping[tuple[str, str], str]  # the flow run, by name and ETag


def leave_out_done(sources: Iterable[MediaSource], done: DoneInputs, left_out: Counter[str]) -> Iterator[MediaSource]:
    """Yield the sources that are not done, and count those that are in `left_out`, by flow run.

    The notes about a zip of which all is done go with it.
    """
    for _, group in groupby(sources, key=lambda source: (source.bucket, source.key)):
        remaining = []
        for source in group:
            run = None if source.note else done.get((to_valid_unicode(source.name), source.etag))
            if run is None:
                remaining.append(source)
            else:
                left_out[run] += 1
        if any(source.note is None for source in remaining):
            yield from remaining


def write_record(results: Path, chunks: Iterable[Chunk]) -> None:
    """Write into the folder of merged results which sources of these chunks were done, and by which version.

    A source that failed, if only in part, is not done.
    """
    failed = _failed(results)
    pictures = _pictures(results)
    source, version = next(pictures, ("", 0))
    with ParquetTableWriter(results / RECORD, _SCHEMA) as record:
        for chunk in chunks:
            rows = []
            for planned in chunk.sources:
                name = to_valid_unicode(planned.name)
                if name != source:  # pictures have the order of the plan; this one has none
                    continue
                if name not in failed:
                    place = {column: getattr(planned, column) for column in _PLACE}
                    rows.append(place | {"source": name, "model_version": version, "kind": planned.kind.value})
                source, version = next(pictures, ("", 0))
            record.add(pa.Table.from_pylist(rows, _SCHEMA))


def read_done(model_name: str, version: int, counts: Callable[[str], bool] = lambda _: True) -> DoneInputs:
    """Return what runs have done with a version whose results are still there; the others are not looked for again.

    Of several runs that have done an input one is named; only those of which `counts(run)` is true.
    """
    index = _index(model_name, version)
    runs = [run for key in _RUNS.keys(index) if counts(run := key.removeprefix(index))]
    done, deleted = dict[tuple[str, str], str](), list[str]()
    with ThreadPoolExecutor(TRANSFERS) as pool:
        for run, record in zip(runs, pool.map(lambda run: _PREDICTIONS.get(f"{run}/{RECORD}"), runs), strict=True):
            if record is None:
                deleted.append(f"{index}{run}")
            else:
                done.update(dict.fromkeys(_done_by(record, version), run))
    _RUNS.delete(*deleted)
    return done


def read_answered(run: str) -> list[MediaSource] | None:
    """Return what run `run` of inference has done, as it planned it; None if its results are not there.

    Raises:
        StorageError: The record is damaged, or from before the places of inputs were kept.
    """
    record = _PREDICTIONS.get(f"{run}/{RECORD}")
    if record is None:
        return None
    try:
        table = pq.read_table(io.BytesIO(record), columns=["source", "kind", *_PLACE]).rename_columns(
            {"source": "name"}
        )
        return [MediaSource(**row | {"kind": MediaKind(row["kind"])}) for row in table.to_pylist()]
    except (pa.ArrowException, ValueError, TypeError, OSError) as error:
        raise StorageError(
            f"Expected in {run}/{RECORD} where its inputs lie, found another file: {str(error)[:300]}. Name the images "
            "themselves, or start the run of inference again."
        ) from error


def count_as_done(run: str, model_name: str, versions: Iterable[int]) -> None:
    """Have later runs find the record of a run that succeeded."""
    for version in versions:
        _RUNS.put(f"{_index(model_name, version)}{run}", b"")


def _index(model_name: str, version: int) -> str:
    return f"done-inputs/{model_name}/{version}/"


def _done_by(record: bytes, version: int) -> Iterator[tuple[str, str]]:
    table = pq.read_table(io.BytesIO(record), filters=[("model_version", "=", version)])
    return zip(table["source"].to_pylist(), table["etag"].to_pylist(), strict=True)


def _failed(results: Path) -> set[str]:
    with (results / FAILURES).open("rb") as lines:
        return {Failure.from_line(line).source for line in lines}


def _pictures(results: Path) -> Iterator[tuple[str, int]]:
    """Yield each source that gave a picture, once, in their order, with the version that answered."""
    with pq.ParquetFile(results / PICTURES) as pictures:
        batches = pictures.iter_batches(columns=["source", "model_version"])
        rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
        for row, _ in groupby(rows):
            yield row

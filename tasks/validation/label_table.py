"""All labels of an archive as one data frame."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.dataset.findings import Finding, FindingBatch, Severity, batch_findings, error, make_finding
from tasks.dataset.labels import ONE_KIND, RANGE_TOLERANCE, LabelSpec
from tasks.finding_codes import Code
from tasks.validation.fast_label_parser import Chunk, Rows, is_box, parse_chunk
from tasks.vision.polygons import polygon_areas, polygon_bounds, polygons_to_xywhr, self_intersects

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

_CHUNK_BYTES = 2**20
_CHUNK_FILES = 10_000
_MEASURES = ("x", "y", "width", "height", "area")
# Annotators clip a few rotated boxes at the edge of the image.
_ROTATED_SHARE = 0.95


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The rows without an error, one a label, in the order of the files and of their lines.

    Columns of `rows`: `label` (category: entry name of the label file), `line` (int32, from 1), `class_id` (int32),
    `x`, `y`, `width`, `height` (float64: centre and size of the bounding box as shares of the image), `area` (float64:
    of the box or the outline, as a share of the image's), `corners` (int32: 0 for a box, else the number of corners).
    `written` maps each label file to the number of its lines with text, faulty ones included. `task` is None if no row
    shows it. Rows of files of another kind than `task` (each has a finding) are in the table too.
    """

    task: str | None
    rows: pd.DataFrame
    written: Mapping[str, int]


def read_labels(
    files: Iterable[tuple[str, bytes]], rules: LabelSpec, add: Callable[[Iterable[Finding | FindingBatch]], object]
) -> LabelTable:
    """Read label files, each as entry name and bytes; `add` gets all faults of their lines and outlines, bit by bit.

    `files` is streamed: memory holds the table (60 bytes a row) and the work on one file of at most 8 MiB. Without a
    task in the rules boxes mean detect and polygons segment, or obb if all have four corners and are rotated boxes.
    Never raises for what the files hold; pandera's SchemaErrors would show a fault of this module.
    """
    builder = _TableBuilder()
    for batch in _chunks(files):
        chunk = parse_chunk(batch, rules)
        add(chain.from_iterable(chunk.findings))
        builder.add([name for name, _ in batch], chunk, rules)
    rows = builder.frame()
    schema().validate(rows, lazy=True)
    add([*builder.mixed(), *builder.crossings(rows), *builder.corners(rows)])
    return LabelTable(task=rules.task or builder.task(rows), rows=rows, written=builder.written)


@cache
def schema() -> "DataFrameSchema":
    """Return the pandera schema of the table's rows: types, ranges, and no other column."""
    from pandera.pandas import Check, Column, DataFrameSchema

    # Centres and sizes are sums and differences of numbers in range.
    low = -RANGE_TOLERANCE - 1e-9
    high = 1 - low
    place = Column("float64", Check.in_range(low, high))
    size = Column("float64", Check.in_range(0, high - low, include_min=False))
    columns = {
        "label": Column("category"),
        "line": Column("int32", Check.ge(1)),
        "class_id": Column("int32", Check.ge(0)),
        **dict.fromkeys(("x", "y"), place),
        **dict.fromkeys(("width", "height"), size),
        "area": Column("float64", Check.in_range(0, (high - low) ** 2)),
        "corners": Column("int32", Check.ge(0)),
    }
    return DataFrameSchema(columns, strict=True, ordered=True)


def _chunks(files: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Put files together until there is enough to work on at once."""
    chunk: list[tuple[str, bytes]] = []
    size = 0
    for name, data in files:
        if chunk and (size + len(data) > _CHUNK_BYTES or len(chunk) == _CHUNK_FILES):
            yield chunk
            chunk = []
            size = 0
        chunk.append((name, data))
        size += len(data)
    if chunk:
        yield chunk


@dataclass(kw_only=True)
class _TableBuilder:
    """The table so far; columns are lists of arrays, one a chunk."""

    written: dict[str, int] = field(default_factory=dict)
    tasks: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    columns: defaultdict[str, list[NDArray[Any]]] = field(default_factory=lambda: defaultdict(list))
    crossing: list[NDArray[np.bool_]] = field(default_factory=list)
    cornered: list[NDArray[np.bool_]] = field(default_factory=list)
    quads: Counter[str] = field(default_factory=Counter)

    def add(self, names: list[str], chunk: Chunk, rules: LabelSpec) -> None:
        before = len(self.written)
        self.written.update(zip(names, chunk.written, strict=True))
        for name, task in zip(names, chunk.tasks, strict=True):
            if task:
                self.tasks[task].append(name)
        self.columns["label"].append((chunk.rows.file + before).astype(np.int32))
        self.columns["line"].append(chunk.rows.line.astype(np.int32))
        self.columns["class_id"].append(chunk.rows.class_id.astype(np.int32))
        self._measure(chunk.rows, is_box(chunk.rows, rules))
        if rules.task == "pose" and rules.keypoints and rules.keypoints[1] == 2:
            count = rules.keypoints[0]
            points = chunk.rows.numbers.reshape(-1, 4 + 2 * count)[:, 4:].reshape(-1, count, 2)
            self.cornered.append((points == 0).all(axis=2).any(axis=1))

    def _measure(self, rows: Rows, boxes: NDArray[np.bool_]) -> None:
        measured = np.empty((5, len(boxes)))
        head = rows.numbers[(np.cumsum(rows.counts) - rows.counts)[boxes, None] + np.arange(4)].T
        measured[:, boxes] = np.vstack([head, head[2] * head[3]])
        crossing = np.zeros(len(boxes), dtype=bool)
        counts = rows.counts[~boxes] // 2
        if len(counts):
            corners = rows.numbers[np.repeat(~boxes, rows.counts)].reshape(-1, 2)
            low, high = polygon_bounds(corners, counts)
            # An outline that goes round several times has several times its area.
            area = np.minimum(polygon_areas(corners, counts), np.prod(high - low, axis=1))
            measured[:, ~boxes] = np.vstack([(low + high).T / 2, (high - low).T, area])
            crossing[~boxes] = self_intersects(corners, counts)
            rotated, tilted = polygons_to_xywhr(corners[np.repeat(counts == 4, counts)].reshape(-1, 4, 2))
            self.quads.update(rotated=int(rotated.sum()), tilted=int(tilted.sum()))
        for name, column in zip(_MEASURES, measured, strict=True):
            self.columns[name].append(column)
        self.columns["corners"].append(np.where(boxes, 0, rows.counts // 2).astype(np.int32))
        self.crossing.append(crossing)

    def frame(self) -> pd.DataFrame:
        """Return the table's rows; the columns are used up one by one, so that there are never two tables."""
        files = pd.Index(list(self.written), dtype=object)
        types = {**dict.fromkeys(("label", "line", "class_id", "corners"), np.int32), **dict.fromkeys(_MEASURES, float)}
        joined = {
            name: np.concatenate([np.zeros(0, types[name]), *self.columns.pop(name, [])])
            for name in ("label", "line", "class_id", *_MEASURES, "corners")
        }
        return pd.DataFrame({**joined, "label": pd.Categorical.from_codes(joined["label"], files)}, copy=False)

    def task(self, rows: pd.DataFrame) -> str | None:
        """Return the task that most files show; if all rows have four corners, they may be rotated boxes."""
        rotated = self.quads["tilted"] > 0 and self.quads["rotated"] >= _ROTATED_SHARE * len(rows)
        return "obb" if rotated and bool((rows["corners"] == 4).all()) else self._main_task()

    def _main_task(self) -> str | None:
        return max(self.tasks, key=lambda kind: len(self.tasks[kind]), default=None)

    def mixed(self) -> Iterator[FindingBatch]:
        """Yield the files with another kind of label than most."""
        main = self._main_task()
        for task, files in self.tasks.items():
            if task != main:
                expected = f"labels for {main}, as in {len(self.tasks[main or task])} other files"
                finding = error(Code.LABEL_COLUMNS, expected, f"labels for {task}", ONE_KIND)
                yield from batch_findings(Code.LABEL_COLUMNS, Severity.ERROR, files, partial(_at_path, finding))

    def crossings(self, rows: pd.DataFrame) -> list[FindingBatch]:
        """Return the outlines that cross themselves."""
        expected = "an outline that does not cross itself"
        found = "edges that pass through each other"
        fix = "Draw it again, its corners in order; an object in several parts is a label for each."
        at = _marked_rows(self.crossing)
        return row_findings(rows, at, Code.LABEL_DEGENERATE, Severity.WARNING, lambda _: (expected, found, fix))

    def corners(self, rows: pd.DataFrame) -> list[FindingBatch]:
        """Return the poses with a keypoint at 0 0, which tools write for absent and Ultralytics reads as seen."""
        found = "a keypoint at 0 0, which is trained as seen in the corner: kpt_shape has no visibility"
        fix = "Write kpt_shape: [n, 3] and three numbers for each keypoint: 0 0 0 if it is absent, else x y 2."
        at = _marked_rows(self.cornered)
        return row_findings(
            rows, at, Code.LABEL_KEYPOINT, Severity.WARNING, lambda _: ("keypoints on the object", found, fix)
        )


def _at_path(finding: Finding, path: str) -> Finding:
    return finding.model_copy(update={"path": path})


def _marked_rows(chunks: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
    return np.flatnonzero(np.concatenate([np.zeros(0, dtype=bool), *chunks]))


def row_findings(
    rows: pd.DataFrame,
    at: NDArray[np.int64],
    code: Code,
    severity: Severity,
    write: Callable[[int], tuple[str, str, str]],
) -> list[FindingBatch]:
    """Return a finding for each row of a table at places `at`; `write` gives what was expected, found, and the fix."""
    labels = rows["label"].array
    lines = rows["line"].to_numpy()

    def make(row: int) -> Finding:
        return make_finding(severity, code, *write(row), path=labels[row], line=int(lines[row]))

    return batch_findings(code, severity, at.tolist(), make)

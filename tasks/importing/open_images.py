"""Open Images: tables of boxes in shares of the image, and a table of the names of classes."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.errors import safe_repr
from tasks.importing.annotations import AnnotatedImage, Box, ImportLog
from tasks.importing.documents import DocumentError, read_text, to_number
from tasks.importing.image_index import subset_of

COLUMNS = frozenset({"ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"})
CLASS_NAMES = "class-descriptions"
_FLAGS = ("IsOccluded", "IsTruncated", "IsDepiction", "IsInside")


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the images of each table of boxes.

    Raises:
        DocumentError: A table is damaged.
    """
    names = _class_names(archive)
    for table in entries:
        objects: defaultdict[str, list[Box | None]] = defaultdict(list)
        for row in _rows(archive, table):
            objects[row["ImageID"]].append(_box(row, names, table, log))
        for image, boxes in objects.items():
            shapes = [box for box in boxes if box]
            yield AnnotatedImage(
                name=image,
                folder=parent_folder(table),
                relative=True,
                subset=subset_of(table),
                shapes=shapes,
                lost=len(boxes) - len(shapes),
            )


def is_box_table(archive: Archive, name: str) -> bool:
    """Return whether an entry is a table of boxes, by its first line."""
    first, _, _ = read_text(archive, name).partition("\n")
    return COLUMNS.issubset(first.strip().split(","))


def _class_names(archive: Archive) -> dict[str, str]:
    """Return the name of each class by its sign (/m/01g317), from `class-descriptions*.csv`, which has no header."""
    names: dict[str, str] = {}
    for table in archive.entries:
        if CLASS_NAMES in table and table.endswith(".csv"):
            with _open_table(archive, table) as lines:
                names |= {line[0]: line[1] for line in csv.reader(lines) if len(line) > 1 and line[0].startswith("/")}
    return names


def _rows(archive: Archive, table: str) -> Iterator[Mapping[str, str]]:
    with _open_table(archive, table) as lines:
        yield from csv.DictReader(lines, restval="")


@contextmanager
def _open_table(archive: Archive, table: str) -> Iterator[io.StringIO]:
    try:
        yield io.StringIO(read_text(archive, table))
    except csv.Error as error:
        raise DocumentError(f"Expected a table in {safe_repr(table)}, found: {error}.") from error


def _box(row: Mapping[str, str], names: Mapping[str, str], table: str, log: ImportLog) -> Box | None:
    if row.get("IsGroupOf") == "1":
        log.add("left out: a group of objects (IsGroupOf), which is no single object", table)
        return None
    corners = [to_number(row[side]) for side in ("XMin", "YMin", "XMax", "YMax")]
    if None in corners or not row["LabelName"]:
        log.add("left out: a row without a class or a whole box", table)
        return None
    for flag in _FLAGS:
        if row.get(flag) == "1":
            log.add(f"not kept: flag {flag}", table)
    sign = row["LabelName"]
    if sign.startswith("/") and sign not in names:
        log.add("changed: a class without a name keeps its sign", table)
    left, top, right, bottom = (float(corner or 0) for corner in corners)
    return Box(class_name=names.get(sign, sign), corners=(left, top, right, bottom))

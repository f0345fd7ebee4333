"""Where the labels of an archive come from: a person, a model, or a model whose label a person has accepted.

`label-origins.parquet` at the top of an archive holds a row for each label that a model has made, and one without a
`row` for each image of which a model alone, or a person who has reviewed it, says that nothing else is there. What it
does not name was made by a person.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from operator import attrgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.findings import Finding, error
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.parquet_tables import read_table

LABEL_ORIGINS = "label-origins.parquet"
MAX_ROWS = 50_000_000  # of 40 bytes each when they are read
_SHORTEST_ROW = len("0 1 1 1 1")  # of a label file


class Origin(StrEnum):
    """Who made a label."""

    HUMAN = "human"
    MODEL = "model"
    ACCEPTED = "model-accepted"  # a person has looked at it, and left it as it was


@dataclass(frozen=True, kw_only=True)
class LabelOrigin:
    """Where a label comes from.

    Attributes:
        image: The entry of the archive.
        row: The place of the label among those of its image, from 0; None for the image: that nothing else is there.
        origin: Who made it.
        model_name: The registered model, None if no model had a part in it; so also the next ones.
        model_version: Its version.
        confidence: 0 to 1, also None for an image.
        flow_run_id: The run that made or accepted it.
    """

    image: str
    row: int | None
    origin: Origin
    model_name: str | None = None
    model_version: int | None = None
    confidence: float | None = None
    flow_run_id: str | None = None


_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("row", pa.int32()),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("model_name", pa.string()),
        pa.field("model_version", pa.int64()),
        pa.field("confidence", pa.float32()),
        pa.field("flow_run_id", pa.string()),
    ]
)
_TEXT = pa.dictionary(pa.int32(), pa.string())
_READ = pa.schema([each.with_type(_TEXT) if each.type == pa.string() else each for each in _SCHEMA])


@dataclass(frozen=True, kw_only=True)
class LabelOrigins:
    """The origins of an archive's labels: those that the sidecar names.

    `table` has the fields of `LabelOrigin` as columns, its texts as dictionaries.
    """

    table: pa.Table = field(default_factory=_READ.empty_table)

    @property
    def rows(self) -> Iterator[LabelOrigin]:
        """The origins one by one, in the order of the file."""
        return (LabelOrigin(**{**row, "origin": Origin(row["origin"])}) for row in self.table.to_pylist())

    @cached_property
    def pseudo_labelled(self) -> frozenset[str]:
        """The images of which a label, or that nothing else is there, is known from a model alone."""
        return self.images_of(Origin.MODEL)

    @cached_property
    def images(self) -> frozenset[str]:
        """All images that the file names: a model, or a person with its help, has labelled each."""
        return frozenset(pc.unique(self.table["image"]).to_pylist())

    def images_of(self, origin: Origin) -> frozenset[str]:
        """Return the images with a row of this origin."""
        return frozenset(pc.unique(self._of(origin)["image"]).to_pylist())

    def find_made_by_model(self, image: str, count: int) -> NDArray[np.bool_]:
        """Return which of the `count` labels of a pseudo-labelled image a model has made.

        If that is known of the image as a whole alone, these are all that are not told otherwise.
        """
        codes, starts, rows, by_model = self._told_rows
        code = codes.get(image)
        own = slice(0) if code is None else slice(starts[code], starts[code + 1])
        told = rows[own] < count
        made = np.full(count, not by_model[own][told].any())
        made[rows[own][told]] = by_model[own][told]
        return made

    @cached_property
    def _told_rows(self) -> tuple[dict[str, int], NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
        """The codes of the images, and of all labels that are told the row and whether it is a model's.

        Those of an image are together, from the start of its code to that of the next. A name is there once, however
        many labels have it.
        """
        told = self.table.filter(pc.greater_equal(self.table["row"], 0))
        images = told["image"].combine_chunks()
        codes = {name: code for code, name in enumerate(images.dictionary.to_pylist())}
        image = images.indices.to_numpy()
        order = np.argsort(image, kind="stable")
        starts = np.searchsorted(image[order], np.arange(len(codes) + 1))
        by_model = pc.equal(told["origin"].cast(pa.string()), Origin.MODEL).to_numpy()
        return codes, starts, told["row"].to_numpy()[order], by_model[order]

    def _of(self, origin: Origin) -> pa.Table:
        return self.table.filter(pc.equal(self.table["origin"].cast(pa.string()), origin))

    def of_images(self, names: Mapping[str, str]) -> list[LabelOrigin]:
        """Return which of the images with other `names` a model has labelled; nobody can tell which of their labels."""
        made = self._of(Origin.MODEL)
        _, first = np.unique(made["image"].combine_chunks().indices, return_index=True)
        rows = LabelOrigins(table=made.take(np.sort(first))).rows
        return [
            replace(each, image=names[each.image], row=None, confidence=None) for each in rows if each.image in names
        ]


def pack_label_origins(origins: Iterable[LabelOrigin]) -> bytes:
    """Return the bytes of `label-origins.parquet`; the same origins in the same order give the same bytes."""
    columns = zip(*map(attrgetter(*_SCHEMA.names), origins), strict=True)
    values = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=False)]
    file = io.BytesIO()
    pq.write_table(pa.table(values, schema=_SCHEMA) if values else _SCHEMA.empty_table(), file, compression="zstd")
    return file.getvalue()


def unpack_label_origins(data: bytes, most: int = MAX_ROWS) -> LabelOrigins:
    """Return the origins from the bytes of `label-origins.parquet`; an archive may bring any bytes.

    Raises:
        ValueError: These are no label origins, or more than `most`.
    """
    table = read_table(data, _READ, most)
    if others := set(pc.unique(table["origin"]).to_pylist()) - set(Origin):
        raise ValueError(f"expected the origins {', '.join(Origin)}, found {safe_repr(min(others))}")
    return LabelOrigins(table=table)


def read_label_origins(archive: Archive) -> tuple[LabelOrigins, list[Finding]]:
    """Return the origins that an archive tells, none if it tells none, and what is wrong with the file.

    It may have as many rows as the archive may have labels and images.
    """
    named = [name for name in archive.entries if name.rpartition("/")[2].casefold() == LABEL_ORIGINS]
    if strays := [name for name in named if name != LABEL_ORIGINS]:
        found = f"it at {safe_repr(min(strays))}, where its rows name other files"
        return LabelOrigins(), [origins_broken(f"{LABEL_ORIGINS} at the top of the archive", found)]
    if not named:
        return LabelOrigins(), []
    texts = sum(entry.file_size for name, entry in archive.entries.items() if name.lower().endswith(".txt"))
    most = min(MAX_ROWS, texts // _SHORTEST_ROW + len(archive.entries))
    try:
        return unpack_label_origins(archive.read(LABEL_ORIGINS), most), []
    except ArchiveError as fault:
        return LabelOrigins(), [fault.finding]
    except ValueError as fault:
        return LabelOrigins(), [origins_broken("origins of the labels that are there", safe_repr(str(fault), 300))]


def origins_broken(expected: str, found: str) -> Finding:
    """Return the finding for a file of origins that cannot be believed."""
    fix = f"Have the tool that labelled the images write {LABEL_ORIGINS} anew, together with the labels."
    return error(Code.LABEL_ORIGINS_BROKEN, expected, found, fix, path=LABEL_ORIGINS)

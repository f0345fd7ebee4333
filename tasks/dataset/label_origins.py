"""Where the labels of an archive come from: a person, a model, or a model whose label a person has accepted.

`label-origins.parquet` at the top of an archive holds a row for each label that a model has made, and one without a
`row` for each image of which a model alone says that nothing else is there. What it does not name was made by a person.
"""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

LABEL_ORIGINS = "label-origins.parquet"
MAX_ROWS = 50_000_000
MAX_BYTES = 1 << 30


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


@dataclass(frozen=True, kw_only=True)
class LabelOrigins:
    """The origins of an archive's labels: those that the sidecar names."""

    rows: tuple[LabelOrigin, ...] = ()

    @property
    def pseudo_labelled(self) -> frozenset[str]:
        """The images of which a label, or that nothing else is there, is known from a model alone."""
        return frozenset(each.image for each in self.rows if each.origin is Origin.MODEL)

    @property
    def counts(self) -> Mapping[Origin, int]:
        """How many labels of each origin the sidecar names; that nothing else is there is no label."""
        return Counter(each.origin for each in self.rows if each.row is not None)


def pack_label_origins(origins: Iterable[LabelOrigin]) -> bytes:
    """Return the bytes of `label-origins.parquet`; the same origins in the same order give the same bytes."""
    columns = zip(*map(astuple, origins), strict=True)
    values = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=False)]
    file = io.BytesIO()
    pq.write_table(pa.table(values, schema=_SCHEMA) if values else _SCHEMA.empty_table(), file, compression="zstd")
    return file.getvalue()


def unpack_label_origins(data: bytes) -> LabelOrigins:
    """Return the origins from the bytes of `label-origins.parquet`; an archive may bring any bytes.

    Raises:
        ValueError: These are no label origins, or more than `MAX_ROWS`.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        table = file.read(columns=_SCHEMA.names).cast(_SCHEMA) if file.metadata.num_rows <= MAX_ROWS else None
    except Exception as error:  # whatever pyarrow raises over a damaged file
        raise ValueError(f"expected a table of the origins of labels, found another file: {error}") from error
    if table is None:
        raise ValueError(f"expected at most {MAX_ROWS:,} origins, found {file.metadata.num_rows:,}")
    try:
        return LabelOrigins(rows=tuple(_origin(row) for row in table.to_pylist()))
    except ValueError as error:
        raise ValueError(f"expected the origins {', '.join(Origin)}, found another: {error}") from error


def _origin(row: dict[str, object]) -> LabelOrigin:
    return LabelOrigin(**{**row, "origin": Origin(str(row["origin"]))})  # type: ignore[arg-type]

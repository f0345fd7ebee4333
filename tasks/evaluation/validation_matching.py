"""What a version has found and missed on labelled images that it has not learnt, as it is kept with the version.

`validation-matching.parquet` of its run holds a row a detection, with whether it is right, and one a missed label.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from tasks.evaluation.labelled_images import EvaluationSet
from tasks.evaluation.matching import Doubles, Ints, match
from tasks.evaluation.overlaps import ComparedImage
from tasks.merge.class_mapping import match_class_ids
from tasks.parquet_tables import read_table

VALIDATION_MATCHING = "validation-matching.parquet"
MOST_ROWS = 50_000_000
_SOURCE = b"validation"
_SCHEMA = pa.schema(
    [
        pa.field("image", pa.int32(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("labelled", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ValidationSource:
    """The images: how many of a split of archives (SHA-256 in hex by name), and the version's task and classes."""

    task: str
    class_names: tuple[str, ...]
    archives: Mapping[str, str]
    split: str
    images: Annotated[int, Field(ge=1)]


_SOURCES = TypeAdapter(ValidationSource)


@dataclass(frozen=True, eq=False, kw_only=True)
class ValidationMatching:
    """The N detections and missed labels; an image is its number, a class its place among the version's names.

    Attributes:
        source: The images that they are of; those without a row show nothing and nothing was found there.
        image: [N] from 0.
        class_id: [N] from 0.
        confidence: [N] above 0 to 1; 0 of a missed label.
        labelled: [N] whether the object is there: False is a wrong detection.
    """

    source: ValidationSource
    image: Ints
    class_id: Ints
    confidence: Doubles
    labelled: NDArray[np.bool_]


def match_validation(
    task: str, class_names: Sequence[str], data: EvaluationSet, images: Sequence[ComparedImage]
) -> ValidationMatching:
    """Return what a version with these classes found in the images of a set, as `compare_images` gives them."""
    matching = match(images)
    missed = matching.found == 0
    own = np.full(len(data.class_names), -1)
    for number, of_data in enumerate(match_class_ids(class_names, data.class_names)):
        if of_data is not None:
            own[of_data] = number
    return ValidationMatching(
        source=ValidationSource(
            task=task,
            class_names=tuple(class_names),
            archives=dict(data.digests),
            split=data.split,
            images=len(images),
        ),
        image=np.concatenate([matching.image, matching.label_image[missed]]),
        class_id=own[np.concatenate([matching.class_id, matching.label_class[missed]])],
        confidence=np.concatenate([matching.confidence, np.zeros(missed.sum())]),
        labelled=np.concatenate([matching.correct, np.ones(missed.sum(), np.bool_)]),
    )


def pack_matching(matching: ValidationMatching) -> bytes:
    """Return the bytes of `validation-matching.parquet`."""
    columns = [pa.array(getattr(matching, field.name), field.type) for field in _SCHEMA]
    described = _SCHEMA.with_metadata({_SOURCE: _SOURCES.dump_json(matching.source)})
    file = io.BytesIO()
    pq.write_table(pa.table(columns, schema=described), file, compression="zstd")
    return file.getvalue()


def unpack_matching(data: bytes) -> ValidationMatching:
    """Return the matching from the bytes of `validation-matching.parquet`, which may be any bytes.

    Raises:
        ValueError: They are another file.
    """
    table = read_table(data, _SCHEMA, MOST_ROWS)
    source = _SOURCES.validate_json((pq.read_metadata(io.BytesIO(data)).metadata or {}).get(_SOURCE, b""))
    columns: dict[str, Any] = {name: table[name].to_numpy() for name in _SCHEMA.names}
    bounds = {"image": source.images - 1, "class_id": len(source.class_names) - 1, "confidence": 1}
    for name, most in bounds.items():
        if not ((columns[name] >= 0) & (columns[name] <= most)).all():
            raise ValueError(f"expected {name} from 0 to {most}, found others")
    return ValidationMatching(
        source=source,
        image=columns["image"].astype(np.int64),
        class_id=columns["class_id"].astype(np.int64),
        confidence=columns["confidence"].astype(np.float64),
        labelled=columns["labelled"].astype(np.bool_),
    )

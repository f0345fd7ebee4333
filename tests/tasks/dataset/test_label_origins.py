import io
import zipfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset.label_origins import (
    LABEL_ORIGINS,
    LabelOrigin,
    LabelOrigins,
    Origin,
    pack_label_origins,
    unpack_label_origins,
)
from tasks.dataset.yolo_archive import YoloArchive

ORIGINS = st.lists(
    st.builds(
        LabelOrigin,
        image=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        row=st.none() | st.integers(0, 2**31 - 1),
        origin=st.sampled_from(Origin),
        model_name=st.none() | st.just("cells"),
        model_version=st.none() | st.integers(1, 2**63 - 1),
        confidence=st.none() | st.floats(0, 1, width=32),
        flow_run_id=st.none() | st.uuids().map(str),
    ),
    max_size=20,
)


@given(ORIGINS)
def test_origins_come_back_as_they_were_packed(origins: list[LabelOrigin]) -> None:
    assert list(unpack_label_origins(pack_label_origins(origins)).rows) == origins


def test_an_image_counts_as_pseudo_labelled_if_a_model_alone_says_anything_of_it() -> None:
    def origin(image: str, row: int | None, kind: Origin) -> LabelOrigin:
        return LabelOrigin(image=image, row=row, origin=kind)

    rows = [
        *(origin("a.jpg", 0, Origin.ACCEPTED), origin("a.jpg", 1, Origin.MODEL)),
        *(origin("empty.jpg", None, Origin.MODEL), origin("seen.jpg", 0, Origin.ACCEPTED)),
        *(origin("seen.jpg", None, Origin.ACCEPTED), origin("drawn.jpg", 0, Origin.HUMAN)),
    ]
    origins = unpack_label_origins(pack_label_origins(rows))
    assert origins.pseudo_labelled == {"a.jpg", "empty.jpg"}
    assert LabelOrigins().pseudo_labelled == frozenset()


def _parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


NOBODY: dict[str, list[object]] = {
    **{name: [None] for name in ("image", "row", "model_name", "model_version", "confidence", "flow_run_id")},
    "origin": ["model"],
}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "another file"),
        (b"PAR1" + b"\0" * 100, "another file"),
        (_parquet(image=["a.jpg"]), "another file"),
        (pack_label_origins([LabelOrigin(image="a", row=0, origin=Origin.HUMAN)])[:-9], "another file"),
        (pack_label_origins([LabelOrigin(image="a", row=0, origin=Origin.HUMAN)]).replace(b"human", b"alien"), "alien"),
        (_parquet(**NOBODY), "null values"),
    ],
)
def test_other_bytes_are_refused_with_what_was_found(data: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        unpack_label_origins(data)


@given(st.data())
def test_damaged_bytes_are_read_whole_or_refused(data: st.DataObject) -> None:
    """A number that leads out of a dictionary would end the process as soon as somebody follows it."""
    rows = [LabelOrigin(image=f"{number % 3}.jpg", row=number, origin=Origin.MODEL) for number in range(9)]
    file = bytearray(pack_label_origins(rows))
    for place in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=5)):
        file[place] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        unpack_label_origins(bytes(file), most=100).table.to_pandas()


def test_no_more_rows_are_read_than_there_can_be_labels() -> None:
    """A column of one value is a few bytes, whatever the number of its rows."""
    rows = [LabelOrigin(image="a.jpg", row=0, origin=Origin.MODEL)] * 1000
    with pytest.raises(ValueError, match="at most 999 rows, found 1,000"):
        unpack_label_origins(pack_label_origins(rows), most=999)


def test_an_archive_carries_the_origins_of_the_entries_that_it_wrote(tmp_path: Path) -> None:
    with YoloArchive(tmp_path / "a.zip", "detect") as archive:
        entries = [archive.add("street/a.jpg", b"1", "train", ["0 .5 .5 .1 .1"]), archive.add("a.jpg", b"2", "val", [])]
        archive.tell_label_origins([LabelOrigin(image=name, row=None, origin=Origin.MODEL) for name in entries])
    with zipfile.ZipFile(tmp_path / "a.zip") as written:
        assert unpack_label_origins(written.read(LABEL_ORIGINS)).pseudo_labelled == set(entries)
        assert set(entries) < set(written.namelist())

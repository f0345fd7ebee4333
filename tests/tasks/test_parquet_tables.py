"""Tables that anybody may have written: what is read of them, and what is refused."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.parquet_tables import read_table

TEXTS = pa.schema([pa.field("name", pa.dictionary(pa.int32(), pa.string()), nullable=False)])
NUMBERS = pa.schema([pa.field("count", pa.int64()), pa.field("share", pa.float32(), nullable=False)])


def packed(**columns: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def test_a_long_text_that_a_small_file_repeats_is_in_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, long = 300, 500_000
    data = packed(name=["a" * long] * rows)
    assert len(data) < long
    sizes = []
    read = pq.ParquetFile.read

    def measured(file: pq.ParquetFile, columns: list[str]) -> pa.Table:
        sizes.append((table := read(file, columns=columns)).nbytes)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read", measured)
    assert len(read_table(data, TEXTS, rows)) == rows
    assert sizes[0] < 20 * long


def test_the_columns_of_the_schema_are_read_and_others_are_not() -> None:
    table = read_table(packed(share=[0.5, 0.25], count=[1, None], other=["x", "y"]), NUMBERS, 2)
    assert table.to_pylist() == [{"count": 1, "share": 0.5}, {"count": None, "share": 0.25}]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"PAR1", "another file"),
        (packed(count=[1]), "another file"),
        (packed(count=["x"], share=[0.5]), "another file"),
        (packed(count=[1], share=pa.array([None], pa.float32())), "null values"),
        (packed(count=[1] * 3, share=[0.5] * 3), "at most 2 rows, found 3"),
    ],
)
def test_other_tables_are_refused_with_what_was_found(data: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        read_table(data, NUMBERS, 2)

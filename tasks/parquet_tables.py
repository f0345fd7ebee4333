"""Tables from Parquet files that anybody may have written."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(data: bytes, columns: pa.Schema, most_rows: int) -> pa.Table:
    """Return the columns of a schema from the bytes of a Parquet file, which may be any bytes.

    A column that is a dictionary in the schema is read as one: few rows of a small file cannot repeat a long text
    without end.

    Raises:
        ValueError: They are another file, have more rows than `most_rows`, or lack values that must be there.
    """
    dictionaries = [field.name for field in columns if pa.types.is_dictionary(field.type)]
    try:
        file = pq.ParquetFile(io.BytesIO(data), read_dictionary=dictionaries)
        rows = file.metadata.num_rows
        table = file.read(columns=columns.names) if rows <= most_rows else None
        if table is not None:
            table.validate(full=True)  # before anything follows a number into a dictionary
            table = table.cast(columns).unify_dictionaries().combine_chunks()
    except Exception as error:  # whatever pyarrow raises over a damaged file
        raise ValueError(f"expected a table of {', '.join(columns.names)}, found another file: {error}") from error
    if table is None:
        raise ValueError(f"expected at most {most_rows:,} rows, found {rows:,}")
    if empty := [field.name for field in columns if not field.nullable and table[field.name].null_count]:
        raise ValueError(f"expected {', '.join(empty)} in each row, found null values")
    return table

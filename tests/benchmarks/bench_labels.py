"""What a million labels cost: reading them into the table, and every rule on it.

`python -m tests.benchmarks.bench_labels [ROWS]`; boxes in files of 10 rows and of 300 rows are drawn for it.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from tasks.dataset.findings import Finding, FindingBatch
from tasks.dataset.labels import LabelSpec
from tasks.validation.label_rules import label_findings
from tasks.validation.label_table import read_labels, schema

T = TypeVar("T")


def make_files(rows: int, rows_a_file: int) -> list[tuple[str, bytes]]:
    """Boxes of ten classes anywhere in the image, with six decimals."""
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0.2, 0.8, (rows, 2)), rng.uniform(0.02, 0.3, (rows, 2))]).tolist()
    lines = [f"{at % 10} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for at, (x, y, w, h) in enumerate(boxes)]
    return [
        (f"labels/train/{at}.txt", "".join(lines[at : at + rows_a_file]).encode()) for at in range(0, rows, rows_a_file)
    ]


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what the work gives, and its seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def main() -> None:
    """Print seconds and rows a second for both sizes of files."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    schema()  # imports pandera
    for rows_a_file in (10, 300):
        files = make_files(rows, rows_a_file)
        sizes = {name: (640, 480) for name, _ in files}
        faults: list[Finding | FindingBatch] = []
        table, reading = timed(partial(read_labels, files, LabelSpec(class_count=10), faults.extend))
        findings, checking = timed(partial(label_findings, table, sizes, 640))
        both = reading + checking
        print(f"{rows} rows in {len(files)} files, {len(faults) + len(findings)} findings or batches of them")
        print(f"  read and parse   {reading:6.2f} s {rows / reading:12,.0f} rows/s")
        print(f"  rules            {checking:6.2f} s {rows / checking:12,.0f} rows/s")
        print(f"  together         {both:6.2f} s {rows / both:12,.0f} rows/s")


if __name__ == "__main__":
    main()

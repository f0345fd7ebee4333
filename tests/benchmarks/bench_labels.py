"""What a million labels cost: reading them into the table, and every rule on it.

`python -m tests.benchmarks.bench_labels [ROWS]`; boxes in files of 10 rows and of 300 rows are drawn for it. Seconds
are of processor time.
"""

import sys

import numpy as np

from tasks.dataset.labels import LabelSpec
from tasks.validation.label_rules import label_findings
from tasks.validation.label_table import LabelTable, read_labels, schema
from tests.benchmarks.results import Measure, processor_s, record, take_turns, work_a_yardstick

ROUNDS = 7
GOAL_S = 5.0


def make_files(rows: int, rows_a_file: int) -> list[tuple[str, bytes]]:
    """Boxes of ten classes anywhere in the image, with six decimals."""
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0.2, 0.8, (rows, 2)), rng.uniform(0.02, 0.3, (rows, 2))]).tolist()
    lines = [f"{at % 10} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for at, (x, y, w, h) in enumerate(boxes)]
    return [
        (f"labels/train/{at}.txt", "".join(lines[at : at + rows_a_file]).encode()) for at in range(0, rows, rows_a_file)
    ]


def main() -> None:
    """Record the seconds for both sizes of files."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    schema()  # imports pandera
    for rows_a_file in (10, 300):
        files = make_files(rows, rows_a_file)
        sizes = {name: (640, 480) for name, _ in files}
        table = read_labels(files, LabelSpec(class_count=10), lambda _: None)

        def read(files: list[tuple[str, bytes]] = files) -> None:
            read_labels(files, LabelSpec(class_count=10), lambda _: None)

        def check(table: LabelTable = table, sizes: dict[str, tuple[int, int]] = sizes) -> None:
            label_findings(table, sizes, 640)

        taken = take_turns({"read": read, "check": check, "yardstick": work_a_yardstick}, ROUNDS, processor_s)
        together = [a + b for a, b in zip(taken["read"], taken["check"], strict=True)]
        place = f"{rows:,} rows in {len(files):,} files"
        for what, seconds, goal in (
            ("read and parse, with pandera's schema", taken["read"], None),
            ("all rules", taken["check"], None),
            ("together", together, GOAL_S),
        ):
            record(
                Measure(
                    name=f"{place}: {what}",
                    unit="s",
                    better="less",
                    ours=seconds,
                    yardstick=taken["yardstick"],
                    goal=goal,
                )
            )


if __name__ == "__main__":
    main()

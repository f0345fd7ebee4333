"""The tables of docs/ with what `make bench` measured: `<!-- figures of bench_merge -->` to `<!-- end of figures -->`.

The figures are those of docs/figures/bench.json. `make bench ONLY=bench_merge TO=docs/figures/bench.json` measures some
anew, `make docs` writes the tables, and `make lint` fails if one is not that of the file. Between the markers of a
bench that has not run into the file yet is nothing.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Sequence

from infra.generated_files import write_stale
from infra.stack_settings import ROOT
from tests.benchmarks.__main__ import BENCHES
from tests.benchmarks.results import BenchRun, Measure, ResultFile, ResultFileError, load, number

DOCS = ROOT / "docs"
SOURCE = DOCS / "figures" / "bench.json"
TABLE = re.compile(r"(<!-- figures of ([^ ]+)(?:: ([^>]+))? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def write_tables(page: str, held: ResultFile) -> str:
    """Return the Markdown text of a page, with a new table between each pair of markers.

    `figures of bench_logs: studio` has only the measures whose name has `studio` in it.

    Raises:
        ResultFileError: A marker names no bench or no measure, or the bench was ended by a signal.
    """
    return TABLE.sub(lambda match: match[1] + _table(match[2], match[3] or "", held) + match[4], page)


def _table(bench: str, part: str, held: ResultFile) -> str:
    if bench not in BENCHES:
        raise ResultFileError(
            f"Expected the name of a bench in a marker, found {bench}. There are {', '.join(BENCHES)}."
        )
    if bench not in held.benches:
        return ""
    run = held.benches[bench]
    if run.exit_code is None or run.exit_code < 0:
        raise ResultFileError(f"Expected that {bench} came to its end, found {run.exit_code}. Run it again.")
    measures = [measure for measure in run.measures if part in measure.name]
    if not measures:
        raise ResultFileError(f"Expected measures of {bench} with {part!r} in their names, found none.")
    beside = any(measure.theirs for measure in measures)
    goals = any(measure.goal for measure in measures)
    head = ["measure", "ours", *["beside", "ours / beside"] * beside, *["goal"] * goals]
    rows = (_cells(measure, beside=beside, goals=goals) for measure in measures)
    lines = [head, *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    first, *others = (f"| {' | '.join(line)} |\n" for line in lines)
    return f"{_source(run, measures)}\n\n{first}|{'---|' * len(head)}\n{''.join(others)}"


def _cells(measure: Measure, *, beside: bool, goals: bool) -> list[str]:
    cells = [measure.name, f"{number(statistics.median(measure.ours))} {measure.unit}"]
    if beside:
        cells += (
            [f"{measure.beside}: {number(statistics.median(measure.theirs))}", f"{measure.ratio}"]
            if measure.theirs
            else ["", ""]
        )
    if goals:
        limit = "at most" if measure.better == "less" else "at least"
        verdict = "" if measure.is_met else ", missed"
        cells.append(f"{limit} {measure.goal:g}{verdict}" if measure.goal else "")
    return cells


def _source(run: BenchRun, measures: Sequence[Measure]) -> str:
    """What was measured where, in a sentence."""
    machine, commit = run.machine, run.versions.commit
    counts = sorted({len(measure.ours) for measure in measures})
    rounds = f"{counts[0]} round" if counts == [1] else f"{' or '.join(map(str, counts))} rounds"
    interval = (
        ", in brackets the 95 % interval" if any(measure.ratio.low for measure in measures if measure.theirs) else ""
    )
    gpu = f", {machine.gpu}" if machine.gpu else ""
    changed = " with changes" if run.versions.dirty else ""
    return (
        f"{run.began:%Y-%m-%d}, commit `{commit}`{changed}, {machine.cores} cores of {machine.cpu}{gpu}, load "
        f"{machine.load:.1f} at the start; medians of {rounds}{interval}."
    )


def main() -> int:
    """Write the tables, or with `--check` say which are out of date; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.figures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a table is out of date")
    check = parser.parse_args().check
    try:
        held = load(SOURCE)
        written = {page: write_tables(page.read_text(), held) for page in sorted(DOCS.glob("*.md"))}
    except ResultFileError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    stale = write_stale(written, check=check)
    if check and stale:
        names = ", ".join(page.name for page in stale)
        sys.stderr.write(f"expected the figures of {SOURCE.name}, found others in {names}; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""All benches, one after the other, into one JSON file: `make bench`, `make bench ONLY=bench_merge,bench_labels`.

A bench that fails or is killed leaves what it had, and the others go on; the exit status is then 1. With `TO=` of a
file that is there the benches that run take the place of theirs in it.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from infra.stack_settings import ROOT
from tests.benchmarks.results import (
    BENCH,
    RESULTS,
    BenchRun,
    ResultFile,
    ResultFileError,
    begin,
    busy_s,
    load,
    processor_s,
    save,
)

PYTEST = ("pytest", "-q", "-s")
# The cheap ones first; a part with a stack is a file of pytest.
BENCHES: dict[str, tuple[str, ...]] = {
    "bench_validation": ("tests.benchmarks.bench_validation", "--large"),
    "bench_labels": ("tests.benchmarks.bench_labels",),
    "fuzz_archives": ("tests.benchmarks.fuzz_archives",),
    "bench_merge": ("tests.benchmarks.bench_merge",),
    "bench_training": (*PYTEST, "tests/benchmarks/bench_training.py"),
    "bench_partial_labels": ("tests.benchmarks.bench_partial_labels",),
    "bench_label_errors": ("tests.benchmarks.bench_label_errors",),
    "bench_promises": ("tests.benchmarks.bench_promises",),
    "bench_selection": ("tests.benchmarks.bench_selection",),
    "bench_predict": (*PYTEST, "tests/benchmarks/bench_predict.py"),
    "bench_live_log": ("tests.benchmarks.bench_live_log",),
    "bench_rollout": (*PYTEST, "tests/benchmarks/bench_rollout.py"),
    "bench_clicks": (*PYTEST, "tests/benchmarks/bench_clicks.py"),
    "bench_inference": (*PYTEST, "tests/benchmarks/bench_inference.py"),
    "bench_tiles": (*PYTEST, "tests/benchmarks/bench_tiles.py"),
    "bench_catalogue": (*PYTEST, "tests/benchmarks/bench_catalogue.py"),
    "bench_logs": ("tests.benchmarks.bench_logs",),
    "bench_metrics": (*PYTEST, "tests/benchmarks/bench_metrics.py"),
    "bench_backup": (*PYTEST, "tests/benchmarks/bench_backup.py"),
    "bench_shared_machine": (*PYTEST, "tests/benchmarks/bench_shared_machine.py"),
    "bench_scale": (*PYTEST, "tests/benchmarks/bench_scale.py"),
}


def chosen(only: str) -> list[str]:
    """Return the names of `ONLY=`, or all.

    Raises:
        ResultFileError: One is no bench.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in BENCHES]:
        raise ResultFileError(f"Expected benches in ONLY=, found {', '.join(unknown)}. There are {', '.join(BENCHES)}.")
    return names or [*BENCHES]


def run(bench: str, path: Path, command: tuple[str, ...]) -> int:
    """Run one bench, which writes its measures into the file; return its exit status."""
    held = load(path) if path.exists() else ResultFile()
    save(path, held, bench, begin())
    print(f"\n{bench}", flush=True)
    began, busy, own = time.monotonic(), busy_s(), processor_s()
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | {RESULTS: str(path), BENCH: bench}
    )
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C reaches it, too; it may have a stack to stop
        process.send_signal(signal.SIGINT)
        code = process.wait()
        raise
    finally:
        held = load(path)
        seconds = time.monotonic() - began
        foreign = max(0.0, busy_s() - busy - processor_s() + own) / (seconds * held.benches[bench].machine.cores)
        ended = {"seconds": round(seconds, 1), "exit_code": process.returncode, "foreign": round(foreign, 3)}
        save(path, held, bench, BenchRun.model_validate({**dict(held.benches[bench]), **ended}))
    return code


def main() -> int:
    """Run the benches; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="names, with commas between them")
    parser.add_argument("--to", type=Path, help="a JSON file; .bench/<date>-<commit>.json if not told otherwise")
    given = parser.parse_args()
    try:
        names = chosen(given.only)
        path = (given.to or default_path()).absolute()
        failed = [name for name in names if run(name, path, BENCHES[name])]
    except ResultFileError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    print(f"\nresults of {len(names)} benches: {path}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def default_path() -> Path:
    """Where the results of a run go."""
    return ROOT / ".bench" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{begin().versions.commit}.json"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())

"""How fast lines are found in the logs that a service keeps, beside `grep`, and what a line costs who writes it.

`python -m tests.benchmarks.bench_logs`: 4 files of 20 MB of our JSON lines, and as much of SeaweedFS's.
"""

import functools
import json
import logging
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from uuid import UUID

from infra.logs.query import Query
from infra.logs.reader import read_backwards, read_forwards
from tasks.log_lines import JsonFormatter
from tests.infra.logs.log_folder import BEGIN, glog, ours

FILE_BYTES = 20_000_000
FILES = 4
RUNS = 500
MB = 1e6
SOME_LINES, LINE_BYTES = 100_000, 160
EVERYTHING = Query()


def run_id(number: int) -> str:
    """The id of a run."""
    return str(UUID(int=number % RUNS))


def json_line(number: int) -> str:
    """As a flow run writes it."""
    return ours(
        number / 100,
        f"image {number} of 400,000 was read and its 12 boxes were checked",
        flow_run_id=run_id(number // 1000),
        flow="train-model",
        model="shapes",
        archives=["shapes-a.zip", "shapes-b.zip"],
    )


def text_line(number: int) -> str:
    """As SeaweedFS writes it."""
    return glog(number / 100, f"uploading {number} to http://127.0.0.1:9334/30,35bc2cee2c: upload 4194304 bytes")


def write_logs(folder: Path, service: str, line: Callable[[int], str]) -> float:
    """Write the files of a service, the oldest first; returns how many MB."""
    number = 0
    for age in range(FILES - 1, -1, -1):
        written = 0
        with (folder / (f"{service}.log.{age}" if age else f"{service}.log")).open("w") as log:
            while written < FILE_BYTES:
                written += log.write(line(number) + "\n")
                number += 1
    return FILES * FILE_BYTES / MB


def processor_s() -> float:
    """Return the processor time of this process and of the programs that it has run, in seconds."""
    usages = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(what: str, mb: float, lines: Callable[[], Iterator[object]]) -> None:
    """Print how much processor time it takes to read all lines: other work on this machine does not count."""
    began = processor_s()
    found = sum(1 for _ in lines())
    took = processor_s() - began
    print(f"{what:<58} {took:6.2f} s {mb / took:8.0f} MB/s {found:8,} lines")


def grep(folder: Path, text: str) -> Iterator[object]:
    """The lines that `grep` finds."""
    files = map(str, folder.glob("*.log*"))
    yield from subprocess.run(["grep", "-F", text, *files], capture_output=True, check=False).stdout.splitlines()  # noqa: S607


def newest(folder: Path, query: Query = EVERYTHING) -> Iterator[object]:
    """What the front page shows first."""
    return islice(read_backwards(folder, query, {}), 100)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mb = write_logs(folder, "worker", json_line) + write_logs(folder, "object-store", text_line)
        run, lately = run_id(7), BEGIN + timedelta(seconds=3500)
        sum(1 for _ in grep(folder, run))  # the files are in memory from here on
        measure("grep: a run", mb, functools.partial(grep, folder, run))
        for what, query in {
            "a run": Query(runs=[run]),
            "a request that is not there": Query(request="0" * 32),
            "a model and its run": Query(model="circles", about=[run]),
            "errors": Query(level="error"),
            "a text that is not there": Query(text="no such text"),
            "from a time on, of the last file": Query(since=lately, level="warning"),
        }.items():
            measure(f"studio logs: {what}", mb, functools.partial(read_forwards, folder, query))
        page = functools.partial(newest, folder)
        some = functools.partial(islice, read_forwards(folder, EVERYTHING), SOME_LINES)
        measure("studio logs: everything, its first 100,000 lines", SOME_LINES * LINE_BYTES / MB, some)
        measure("front page: the newest 100", mb, page)
        measure("front page: the newest 100 of a run", mb, lambda: page(Query(runs=[run])))
        measure("front page: the newest 100 errors, of none", mb, lambda: page(Query(level="error")))
    formatter = JsonFormatter("flow")
    record = logging.LogRecord("tasks", logging.INFO, "x.py", 1, json.loads(json_line(1))["message"], (), None)
    began = processor_s()
    for _ in range(20_000):
        formatter.format(record)
    print(f"{'a line of ours is written in':<58} {(processor_s() - began) / 0.02:6.1f} us")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

"""How fast lines are found in the logs that a service keeps, beside `grep`, and what a line costs who writes it.

`python -m tests.benchmarks.bench_logs`: 4 files of 20 MB of our JSON lines, and as much of SeaweedFS's.
"""

import json
import logging
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

import psutil

from infra.logs.query import Query
from infra.logs.reader import read_backwards, read_forwards
from tasks.log_lines import JsonFormatter
from tests.benchmarks.results import Measure, processor_s, record, take_turns, work_a_yardstick
from tests.infra.logs.log_folder import BEGIN, glog, ours

FILE_BYTES = 20_000_000
FILES = 4
RUNS = 500
MB = 1e6
SOME_LINES = 100_000
WRITTEN = 20_000
ROUNDS = 7
GREP = "`grep -F` of a run"
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


def grep(folder: Path, text: str) -> Iterator[object]:
    """The lines that `grep` finds."""
    files = map(str, folder.glob("*.log*"))
    yield from subprocess.run(["grep", "-F", text, *files], capture_output=True, check=False).stdout.splitlines()  # noqa: S607


def find(folder: Path, query: Query, most: int | None = None) -> Iterator[object]:
    """The lines that `studio logs` finds."""
    return islice(read_forwards(folder, query, {}), most)


def exhaust(search: Callable[..., Iterable[object]], *arguments: object) -> None:
    """Have all lines that a search finds."""
    for _ in search(*arguments):
        pass


def write_lines() -> None:
    """Format lines as a flow run does."""
    formatter = JsonFormatter("flow")
    line = logging.LogRecord("tasks", logging.INFO, "x.py", 1, json.loads(json_line(1))["message"], (), None)
    for _ in range(WRITTEN):
        formatter.format(line)


def newest(folder: Path, query: Query = EVERYTHING) -> Iterator[object]:
    """What the front page shows first."""
    return islice(read_backwards(folder, query, {}), 100)


def main() -> None:
    """Record what each search takes beside `grep`, and what a line costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mb = write_logs(folder, "worker", json_line) + write_logs(folder, "object-store", text_line)
        run, lately = run_id(7), BEGIN + timedelta(seconds=3500)
        sum(1 for _ in grep(folder, run))  # the files are in memory from here on
        searches = {
            "a run": Query(runs=[run]),
            "a request that is not there": Query(request="0" * 32),
            "a model and its run": Query(model="circles", about=[run]),
            "errors, of which there are none": Query(level="error"),
            "a text that is not there": Query(text="no such text"),
            "from a time on, of the last file": Query(since=lately, level="warning"),
        }
        pages = {
            "the newest 100": EVERYTHING,
            "the newest 100 of a run": Query(runs=[run]),
            "the newest 100 errors, of none": Query(level="error"),
        }
        ways = {GREP: partial(exhaust, grep, folder, run)}
        ways |= {f"`studio logs`: {what}": partial(exhaust, find, folder, query) for what, query in searches.items()}
        ways[f"`studio logs`: the first {SOME_LINES:,} lines of all"] = partial(
            exhaust, find, folder, EVERYTHING, SOME_LINES
        )
        ways |= {f"front page: {what}": partial(exhaust, newest, folder, query) for what, query in pages.items()}
        before = psutil.Process().memory_info().rss
        taken = take_turns(ways, ROUNDS, processor_s)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    for what, seconds in taken.items():
        if what != GREP:
            name = f"{mb:.0f} MB, {what}"
            record(Measure(name=name, unit="s", better="less", ours=seconds, beside=GREP, theirs=taken[GREP]))
    writing = take_turns({"write": write_lines, "yardstick": work_a_yardstick}, ROUNDS, processor_s)
    name = f"{WRITTEN:,} lines of ours are written"
    record(Measure(name=name, unit="s", better="less", ours=writing["write"], yardstick=writing["yardstick"]))
    record(Measure(name="most memory of all searches", unit="MiB", better="less", ours=[more / 2**20]))


if __name__ == "__main__":
    main()

"""Thousands of damaged archives against the check: it must end soon, with a report, and touch nothing.

`python -m tests.benchmarks.fuzz_archives [COUNT] [--seed N]`. The check runs in a process of its own, so that a hang
and the crash of a library are seen and reported too.
"""

import argparse
import contextlib
import faulthandler
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tasks.dataset.findings import Report
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import Inspection, inspect_dataset
from tests.benchmarks.archives import layouts, zipped
from tests.benchmarks.bench_validation import peak_mib
from tests.benchmarks.mutants import mutant
from tests.benchmarks.results import Measure, record

LIMIT_S = 10.0
# The largest picture that the check decodes takes 0.6 GB.
LIMIT_MIB = 1500
_START_S = 120
_MAX_FAILURES = 20
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ACTS = ("os.", "shutil.", "subprocess.", "socket.", "tempfile.", "ctypes.dlopen")
_HARMLESS = {"os.scandir", "os.listdir", "os.walk", "os.fwalk", "os.getxattr", "os.listxattr", "os.listdrives"}

Check = Callable[[Path, str, str, ValidationPolicy], Inspection]


@dataclass(frozen=True)
class Outcome:
    """What the check made of one mutant; `failure` is None where all went as it must."""

    index: int
    seconds: float = 0.0
    verdict: str = ""
    codes: tuple[str, ...] = ()
    peak_mib: float = 0.0
    failure: str | None = None


@dataclass(frozen=True)
class Job:
    """What to fuzz: `limit_s` is the longest that one check may take."""

    count: int
    seed: int = 0
    check: Check = inspect_dataset
    limit_s: float = LIMIT_S


def fuzz(job: Job) -> Iterator[Outcome]:
    """Yield the outcome of every mutant in order, until too many fail; after a hang or crash a new process goes on."""
    start = failures = 0
    while start < job.count:
        for outcome in _outcomes_of_process(job, start):
            yield outcome
            start = outcome.index + 1
            failures += outcome.failure is not None
            if failures == _MAX_FAILURES:
                return


def _outcomes_of_process(job: Job, start: int) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        _trace(Path(folder)).touch()
        process = context.Process(target=_work, args=(theirs, job, start, Path(folder)))
        process.start()
        theirs.close()
        index = start
        try:
            while index < job.count:
                yield _receive(ours)
                index += 1
        except EOFError:
            process.join()
            trace = _trace(Path(folder)).read_text(errors="replace")[-4000:]
            yield Outcome(index, failure=f"the process ended with {process.exitcode}\n{trace}")
        finally:
            ours.close()
            process.kill()
            process.join()


def _receive(connection: Connection) -> Outcome:
    if not connection.poll(_START_S):
        raise TimeoutError(f"the process said nothing for {_START_S} s, and its watchdog nothing either")
    outcome: Outcome = connection.recv()
    return outcome


def _trace(folder: Path) -> Path:
    return folder / "trace.txt"


def _work(connection: Connection, job: Job, start: int, folder: Path) -> None:
    """Check mutant after mutant; a watchdog thread ends this process where one hangs."""
    with _trace(folder).open("w") as trace:
        # What libraries say of damaged images goes there too, and so does the traceback of a hang or a crash.
        os.dup2(trace.fileno(), sys.stderr.fileno())
    faulthandler.enable()
    path = _enter_sandbox(folder)
    watch = _Watch()
    sys.addaudithook(watch.see)
    for index in range(start, job.count):
        path.write_bytes(mutant(job.seed, index))
        faulthandler.dump_traceback_later(job.limit_s, exit=True)
        outcome = _examine(index, path, job.check, watch)
        faulthandler.cancel_dump_traceback_later()
        connection.send(outcome)


def _enter_sandbox(folder: Path) -> Path:
    """Make an empty folder the working and the temporary one; return the path of the mutants in it."""
    sandbox = folder / "sandbox"
    sandbox.mkdir()
    os.chdir(sandbox)
    tempfile.tempdir = str(sandbox)
    sys.dont_write_bytecode = True
    path = sandbox / "mutant.zip"
    for entries in layouts().values():
        # What is imported late is imported here, so that the watch sees the check alone.
        path.write_bytes(zipped(entries))
        inspect_dataset(path, path.name, "", ValidationPolicy.model_validate({}))
    return path


@dataclass
class _Watch:
    """An audit hook that notes what is done to files, processes and the network while it is armed."""

    armed: bool = False
    seen: list[str] = field(default_factory=list)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or event in _HARMLESS:
            return
        if event.startswith(_ACTS) or (event == "open" and arguments[2] & _WRITING):
            self.seen.append(f"{event}{arguments!r:.200}")

    @contextlib.contextmanager
    def arm(self) -> Iterator[None]:
        self.seen.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


def _examine(index: int, path: Path, check: Check, watch: _Watch) -> Outcome:
    before = path.read_bytes()
    began = time.perf_counter()
    try:
        with watch.arm():
            report = check(path, path.name, "0" * 64, ValidationPolicy.model_validate({})).report
        taken = time.perf_counter() - began
        failure = _fault_of_report(report) or _fault_of_surroundings(path, before, watch)
        return Outcome(index, taken, report.verdict, tuple(report.counts), peak_mib(), failure)
    except BaseException:  # noqa: BLE001  whatever it is, it is what is looked for
        return Outcome(index, failure=traceback.format_exc())


def _fault_of_report(report: Report) -> str | None:
    if Report.model_validate_json(report.model_dump_json()) != report:
        return "the report is another one after a round trip through JSON"
    if unknown := set(report.counts) - set(Code):
        return f"unknown codes: {unknown}"
    for finding in report.findings:
        if any(unicodedata.category(character) == "Cc" for character in f"{finding.message}{finding.path}"):
            return f"a finding with characters that a terminal obeys: {finding!r}"
        if not finding.message.startswith("Expected "):
            return f"a message of another form: {finding!r}"
    return None


def _fault_of_surroundings(path: Path, before: bytes, watch: _Watch) -> str | None:
    if watch.seen:
        return f"the check did more than read: {watch.seen[:5]}"
    if {path} != set(path.parent.rglob("*")) or path.read_bytes() != before:
        return f"the check changed files: {sorted(path.parent.rglob('*'))}"
    if peak_mib() > LIMIT_MIB:
        return f"{peak_mib():.0f} MiB were held, {LIMIT_MIB} at most are expected"
    return None


def _save(job: Job, outcome: Outcome) -> Path:
    path = Path(tempfile.gettempdir()) / f"mutant-{job.seed}-{outcome.index}.zip"
    path.write_bytes(mutant(job.seed, outcome.index))
    return path


def _run(job: Job) -> tuple[list[Outcome], int]:
    """Print progress and failures; return the outcomes and the number of failures."""
    outcomes = []
    failures = 0
    began = time.perf_counter()
    for outcome in fuzz(job):
        outcomes.append(outcome)
        if outcome.failure:
            failures += 1
            print(f"\nmutant {outcome.index}, kept as {_save(job, outcome)}: {outcome.failure}", flush=True)
        if len(outcomes) % 500 == 0 or len(outcomes) == job.count:
            rate = len(outcomes) / (time.perf_counter() - began)
            print(f"{len(outcomes)} of {job.count}, {rate:.0f} a second, {failures} failed", flush=True)
    return outcomes, failures


def main() -> None:
    """Fuzz, and end with 1 where any mutant failed."""
    parser = argparse.ArgumentParser(description="Check damaged archives.")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes, failures = _run(Job(options.count, options.seed))
    verdicts = Counter(outcome.verdict or "none" for outcome in outcomes)
    seen = Counter(code for outcome in outcomes for code in outcome.codes)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    print("verdicts:", ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common()))
    print(f"{len(seen)} of {len(Code)} codes:", ", ".join(f"{code} {count}" for code, count in seen.most_common()))
    print(f"slowest: mutant {slowest.index}; {outcomes[0].peak_mib:.0f} MiB after the first mutant")
    of = f"{options.count:,} damaged archives"
    for what, unit, most, limit in (
        ("the slowest check", "s", slowest.seconds, LIMIT_S),
        ("most memory", "MiB", max(outcome.peak_mib for outcome in outcomes), LIMIT_MIB),
    ):
        record(Measure(name=f"{of}: {what}", unit=unit, better="less", ours=[most], goal=limit))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

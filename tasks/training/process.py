"""The flow's side of the training process: start it, follow its events, end it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import psutil

from tasks.training.job import Failure, Job, TrainerEvent, from_json_line, to_json_line
from tasks.training.restarts import is_memory_error
from tasks.weights.isolation import without_credentials

CHECKOUT = Path(__file__).resolve().parents[2]
POLL_INTERVAL_S = 0.2
CALLBACK_INTERVAL_S = 10.0
_LOG_TAIL = 64 * 1024  # bytes; several processes print long tracebacks


def run_job(
    job: Job, take: Callable[[Sequence[TrainerEvent]], None], pulse: Callable[[], None] | None = None
) -> Failure | None:
    """Do a job in a process of its own; returns why it failed, or None.

    `take` gets the new events, several if it is slow. The process and its children are gone when this ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=job.folder))
    job_file = folder / "job.json"
    job_file.write_text(to_json_line(job), encoding="utf-8")
    events_file = folder / "events.jsonl"
    events_file.touch()
    log = folder / "output.log"
    failure: Failure | None = None
    with log.open("w") as output, _process([str(job_file), str(events_file), str(os.getpid())], output) as process:
        for events in _follow(process, events_file, pulse):
            failure = next((event for event in events if isinstance(event, Failure)), failure)
            take([event for event in events if not isinstance(event, Failure)])
        status = process.wait()
    return _failure(failure, status, _tail(log))


@contextlib.contextmanager
def _process(arguments: list[str], output: TextIO) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.training.trainer", *arguments],
        cwd=Path(output.name).parent,  # what Ultralytics downloads there is removed with the run
        env=without_credentials(os.environ, CHECKOUT),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process and all its children: the last of them frees the GPU."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    psutil.wait_procs(family, timeout=5)


def _follow(
    process: subprocess.Popen[str], events: Path, pulse: Callable[[], None] | None
) -> Iterator[list[TrainerEvent]]:
    """Yield the new events, all that there are at a time."""
    pulsed = time.monotonic()
    with events.open(encoding="utf-8") as lines:
        while True:
            ended = process.poll() is not None  # before the reading: nothing is then missed
            if new := list(_whole_lines(lines)):
                yield new
            if ended:
                return
            if pulse is not None and time.monotonic() - pulsed >= CALLBACK_INTERVAL_S:
                pulse()
                pulsed = time.monotonic()
            time.sleep(POLL_INTERVAL_S)


def _whole_lines(lines: TextIO) -> Iterator[TrainerEvent]:
    while True:
        start = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(start)
            return
        yield from_json_line(line)


def _failure(reported: Failure | None, status: int, tail: str) -> Failure | None:
    """Why the process ended: its own report, or its exit status and the end of its output."""
    if status == 0 and reported is None:
        return None
    last = tail.strip().rpartition("\n")[2]
    if reported is None:
        by = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}: {last}"
        reported = Failure(reason=f"The training process {by}.", killed=status < 0, memory=is_memory_error(tail))
    if "CalledProcessError" in reported.reason:  # with several GPUs the reason is in the output of their processes
        reported = replace(reported, reason=f"{reported.reason} {last}", memory=is_memory_error(tail))
    return replace(reported, output=tail)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        return file.read().decode(errors="replace")

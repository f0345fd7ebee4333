"""The flow's side of the training process: start it, follow what it tells, end it."""

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
from tasks.training.retry_policy import is_memory_error
from tasks.weights.isolation import without_credentials

CHECKOUT = Path(__file__).resolve().parents[2]
POLL_INTERVAL_S = 0.2
CALLBACK_INTERVAL_S = 10.0
_LOG_TAIL = 64 * 1024  # several processes tell their ends at length


def run_job(
    job: Job, take: Callable[[Sequence[TrainerEvent]], None], pulse: Callable[[], None] | None = None
) -> Failure | None:
    """Do a job in a process of its own; returns why it ended, or None if all went well.

    `take` gets what was told since it was called last, which is more than one message where it takes long.

    The process and its children are gone when this returns or raises, whatever the reason.
    """
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=job.folder))
    events, log = folder / "events.jsonl", folder / "output.log"
    events.touch()
    (folder / "job.json").write_text(to_json_line(job), encoding="utf-8")
    failure: Failure | None = None
    with (
        log.open("w") as output,
        _process([str(folder / "job.json"), str(events), str(os.getpid())], output) as process,
    ):
        for told in _follow(process, events, pulse):
            failure = next((message for message in told if isinstance(message, Failure)), failure)
            take([message for message in told if not isinstance(message, Failure)])
        status = process.wait()
    return _failure(failure, status, _tail(log))


@contextlib.contextmanager
def _process(arguments: list[str], output: TextIO) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.training.trainer", *arguments],
        cwd=Path(output.name).parent,  # what Ultralytics downloads beside it goes when the run goes
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
    """Kill the process and all its children: a GPU is free when the last of them is gone."""
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
    """Yield what is told, as much at a time as there is."""
    pulsed = time.monotonic()
    with events.open(encoding="utf-8") as lines:
        while True:
            ended = process.poll() is not None  # asked first: what it told before its end is then all there
            if told := list(_whole_lines(lines)):
                yield told
            if ended:
                return
            if pulse is not None and time.monotonic() - pulsed >= CALLBACK_INTERVAL_S:
                pulse()
                pulsed = time.monotonic()
            time.sleep(POLL_INTERVAL_S)


def _whole_lines(lines: TextIO) -> Iterator[TrainerEvent]:
    while True:
        place = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(place)
            return
        yield from_json_line(line)


def _failure(told: Failure | None, status: int, tail: str) -> Failure | None:
    """Why the process ended: its own words, or what its exit status and the end of its output say."""
    if status == 0 and told is None:
        return None
    last = tail.strip().rpartition("\n")[2]
    if told is None:
        by = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}: {last}"
        told = Failure(f"The training process {by}.", killed=status < 0)
        told = replace(told, memory=is_memory_error(tail))
    if "CalledProcessError" in told.reason:  # of several processes, each with a GPU: the reason is in their output
        told = replace(told, reason=f"{told.reason} {last}", memory=is_memory_error(tail))
    return replace(told, output=tail)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        return file.read().decode(errors="replace")

"""The flow's side of the training process: start it, follow its events, end it."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from tasks.training.job import Failure, Job, TrainerEvent, from_json_line, to_json_line
from tasks.training.restarts import is_memory_error
from tasks.weights.process import IsolatedProcess, exit_reason, isolated_process, last_line

POLL_INTERVAL_S = 0.2
CALLBACK_INTERVAL_S = 10.0
# What the jobs import, sooner or later: the first optimizer imports dynamo, deterministic algorithms inductor.
IMPORTS = (
    *("torch._dynamo", "torch._inductor.config", "ultralytics.models"),
    *(f"tasks.training.trainer.{module}" for module in ("evaluation", "partial_labels", "reference", "training_run")),
)
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
    arguments = [str(job_file), str(events_file)]
    with log.open("w") as output, isolated_process("tasks.training.trainer", arguments, output) as process:
        for events in _follow(process, events_file, pulse):
            failure = next((event for event in events if isinstance(event, Failure)), failure)
            take([event for event in events if not isinstance(event, Failure)])
        status = process.wait()
    return _failure(failure, status, _tail(log))


def _follow(process: IsolatedProcess, events: Path, pulse: Callable[[], None] | None) -> Iterator[list[TrainerEvent]]:
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
    if reported is None:
        reason = f"The training process {exit_reason(status, tail)}."
        reported = Failure(reason=reason, killed=status < 0, memory=is_memory_error(tail))
    if "CalledProcessError" in reported.reason:  # with several GPUs the reason is in the output of their processes
        reported = replace(reported, reason=f"{reported.reason} {last_line(tail)}", memory=is_memory_error(tail))
    return replace(reported, output=tail)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        return file.read().decode(errors="replace")

"""`python -m tasks.training.trainer JOB EVENTS OWNER`: do the job in file JOB, append what happens to file EVENTS.

It ends with the process OWNER.
"""

import functools
import os
import sys
from pathlib import Path

from tasks.errors import StudioError
from tasks.training.job import Failure, ReferenceJob, TrainingJob, from_line
from tasks.training.retry_policy import is_memory_error
from tasks.training.trainer.event_file import tell
from tasks.training.trainer.watchdog import end_with


def main(job_file: str, events_file: str, owner: str) -> None:
    """Do one job; what goes wrong in it is told, never raised."""
    end_with(int(owner))
    say = functools.partial(tell, Path(events_file))
    try:
        job = from_line(Path(job_file).read_text(encoding="utf-8"))
        # These import torch, which takes seconds and may itself fail.
        from tasks.training.trainer.evaluation import score
        from tasks.training.trainer.reference import refer
        from tasks.training.trainer.training_run import train

        if isinstance(job, TrainingJob):
            train(job, say, (int(owner), os.getpid()))
        else:
            for scores in refer(job) if isinstance(job, ReferenceJob) else score(job):
                say(scores)
    except StudioError as error:
        say(Failure(str(error)))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - Ultralytics raises whatever torch, yaml or pickle raise
        kind = "" if isinstance(error, StudioError) else f"{type(error).__name__}: "
        reason = f"{kind}{str(error).strip() or 'no reason given'}"
        say(Failure(reason, memory=isinstance(error, MemoryError) or is_memory_error(reason)))
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`python -m tasks.training.trainer JOB EVENTS OWNER`: do the job in file JOB, append its events to file EVENTS.

It ends with the process OWNER.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.errors import StudioError
from tasks.training.job import (
    EvaluationJob,
    Failure,
    Job,
    PredictionJob,
    ReferencePredictionJob,
    TrainerEvent,
    TrainingJob,
    append_event,
    from_json_line,
)
from tasks.training.restarts import is_memory_error
from tasks.weights.process import exit_when_process_ends


def main(job_file: str, events_file: str, owner: str) -> None:
    """Do one job; a fault ends it with a Failure among the events."""
    exit_when_process_ends(int(owner))
    emit = functools.partial(append_event, Path(events_file))
    try:
        job = from_json_line(Path(job_file).read_text(encoding="utf-8"))
        # These import torch, which takes seconds and may itself fail.
        from tasks.training.trainer.evaluation import evaluate_models
        from tasks.training.trainer.reference import predict_and_score, predict_chunks
        from tasks.training.trainer.training_run import train

        if isinstance(job, TrainingJob):
            train(job, emit, (int(owner), os.getpid()))
        else:
            work: dict[type[Job], Callable[[Any], Iterator[TrainerEvent]]] = {
                EvaluationJob: evaluate_models,
                PredictionJob: predict_chunks,
                ReferencePredictionJob: predict_and_score,
            }
            for event in work[type(job)](job):
                emit(event)
    except Exception as error:  # noqa: BLE001 - Ultralytics raises whatever torch, yaml or pickle raise
        if isinstance(error, StudioError):
            failure = Failure(reason=str(error))
        else:
            reason = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
            failure = Failure(reason=reason, memory=isinstance(error, MemoryError) or is_memory_error(reason))
        emit(failure)
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

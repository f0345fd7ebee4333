"""A training from its start or newest checkpoint to its model: the training process, started again as often as it pays.

It asks no service: what keeps the checkpoints and where the log goes is the caller's.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from tasks.errors import StudioError
from tasks.files import MAKE_ROOM, is_on_full_disk
from tasks.training.checkpoints import RestoredCheckpoint
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import Failure, Notice, TrainerEvent, TrainingJob
from tasks.training.process import run_job
from tasks.training.restarts import Attempt, next_attempt

EpochListener = Callable[[EpochResult], None]
Log = logging.Logger | logging.LoggerAdapter[Any]


class TrainingError(StudioError):
    """A training cannot begin, or stopped."""


class Checkpoints(Protocol):
    """Keeps what a training needs to resume."""

    def keep(self, epoch: EpochResult) -> None:
        """Keep the checkpoint of an epoch, if its file is still there."""

    def restore(self, folder: Path) -> RestoredCheckpoint | None:
        """Return the newest checkpoint that is whole, downloaded into `folder`."""


def train(
    job: TrainingJob,
    checkpoints: Checkpoints,
    log: Log,
    listeners: Sequence[EpochListener] = (),
    pulse: Callable[[], None] | None = None,
) -> TrainedModel:
    """Train on the merged dataset, from the newest checkpoint if there is one.

    After every epoch its checkpoint is kept and each listener called, whose errors are only logged; `pulse` is called
    every few seconds.

    Raises:
        TrainingError: The process failed, and not for too little memory or a kill, after which it is started again.
    """
    outcome = _Outcome(checkpoints, log, listeners)
    attempt = Attempt(int(job.arguments["batch"]))
    devices = str(job.arguments.get("device", "")).count(",") + 1
    while True:
        restored = checkpoints.restore(job.folder)
        if restored is not None:  # an earlier process may have halved its batch
            attempt = replace(attempt, batch=min(attempt.batch, restored.manifest.batch))
        outcome.begin(attempt.batch)
        failure = run_job(_resume(job, restored, attempt.batch, log), outcome.take, pulse)
        if outcome.model is not None:
            return outcome.model
        again = next_attempt(attempt, failure, outcome.epochs, devices) if failure else None
        if again is None:
            log.error("the end of its output:\n%s", failure.output if failure else "")
            raise TrainingError(f"The training stopped: {failure_reason(failure, job.folder)}")
        log.warning("%s The training goes on with batch %d.", failure_reason(failure, job.folder), again.batch)
        attempt = again


class _Outcome:
    """Passes the events of the training process on."""

    def __init__(self, checkpoints: Checkpoints, log: Log, listeners: Sequence[EpochListener]) -> None:
        self.model: TrainedModel | None = None
        self.epochs = 0
        self._batch = 0
        self._checkpoints = checkpoints
        self._listeners = listeners
        self._log = log

    def begin(self, batch: int) -> None:
        """Another attempt, with this batch."""
        self.epochs = 0
        self._batch = batch

    def take(self, events: Sequence[TrainerEvent]) -> None:
        for notice in (event for event in events if isinstance(event, Notice)):
            self._log.info("%s", notice.text)
        epochs = [event for event in events if isinstance(event, EpochResult)]
        if kept := [epoch for epoch in epochs if epoch.checkpoint]:  # before the listeners, who may wait for a server
            self._call(self._checkpoints.keep, kept[-1])
        for epoch in epochs:
            self._count(epoch)
            for listener in self._listeners:
                self._call(listener, epoch)
        self.model = next((event for event in events if isinstance(event, TrainedModel)), self.model)

    def _count(self, epoch: EpochResult) -> None:
        if epoch.restored:
            return
        self.epochs += 1
        if epoch.batch < self._batch:
            self._log.warning("There was too little memory. The training goes on with batch %d.", epoch.batch)
            self._batch = epoch.batch

    def _call(self, listener: EpochListener, epoch: EpochResult) -> None:
        try:
            listener(epoch)
        except Exception as error:  # noqa: BLE001 - hours of training are worth more than any listener
            message = "epoch %d could not be reported, training goes on: %s"
            self._log.warning(message, epoch.number, error, exc_info=not isinstance(error, StudioError))


def _resume(job: TrainingJob, restored: RestoredCheckpoint | None, batch: int, log: Log) -> TrainingJob:
    job = replace(job, arguments=dict(job.arguments) | {"batch": batch})
    if restored is None:
        return job
    manifest = restored.manifest
    log.info("carrying on after epoch %d", manifest.epoch)
    return replace(
        job, checkpoint=restored.weights, best=restored.best, best_epoch=manifest.best, finished=manifest.last
    )


def failure_reason(failure: Failure | None, folder: Path) -> str:
    """Return why a job that writes to `folder` gave no result; a full disk is one more reason."""
    reason = failure.reason if failure else "its process ended without a word"
    return f"{reason} There is no room in {folder}. {MAKE_ROOM}" if is_on_full_disk(folder) else reason

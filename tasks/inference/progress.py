"""The progress of a run of inference, shown every few seconds whatever the run waits for."""

from collections.abc import Callable
from typing import Self

from prefect import get_run_logger

from tasks.inference.work_queue import WorkQueue
from tasks.orchestration.repetition import run_periodically
from tasks.storage.s3_client import StorageError

SHOW_INTERVAL_S = 10.0


class ProgressReporter:
    """A context that shows the share of a run that is done, and the images that this process has done."""

    def __init__(self, queue: WorkQueue, show: Callable[[float, int], None]) -> None:
        self._queue = queue
        self._show = show
        self._images = 0
        self._chunk = (-1, 0, 0)  # its number, and how many of its images are done
        self._log = get_run_logger()
        self._timer = run_periodically(self.show, SHOW_INTERVAL_S, name="progress")

    def __enter__(self) -> Self:
        self._timer.__enter__()
        return self

    def __call__(self, chunk: int, images: int, total: int) -> None:
        """Note that `images` of about `total` images of a chunk are done."""
        before, done, _ = self._chunk
        self._images += images - (done if before == chunk else 0)
        self._chunk = chunk, images, total

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.__exit__(None, None, None)
        if kind is None:
            self.show()

    def show(self) -> None:
        """Show it now; if the store stays away, log that."""
        chunk, images, total = self._chunk
        try:
            done = self._queue.done()
        except StorageError as error:
            self._log.warning("the progress could not be shown: %s", error)
            return
        begun = min(images / total, 1.0) if total > 0 and chunk not in done else 0.0
        self._show((len(done) + begun) / max(self._queue.plan.chunks, 1), self._images)

"""How far a run of inference is, shown every few seconds whatever it waits for."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from prefect import get_run_logger

from tasks.inference.work_queue import WorkQueue
from tasks.orchestration.repetition import run_periodically
from tasks.storage.s3_client import StorageError

SHOW_INTERVAL_S = 10.0


class ProgressReporter:
    """A context that shows the share of a run that is done, and the images that this process has done.

    It is called with each image that is done. What cannot be shown is logged.
    """

    def __init__(self, queue: WorkQueue, show: Callable[[float, int], None]) -> None:
        self._queue = queue
        self._show = show
        self._images = 0
        self._chunk, self._chunk_images, self._chunk_total = -1, 0, 0
        self._log = get_run_logger()
        self._timer = run_periodically(self.show, SHOW_INTERVAL_S, name="progress")

    def __enter__(self) -> Self:
        """Begin."""
        self._timer.__enter__()
        return self

    def __call__(self, chunk: int, images: int, total: int) -> None:
        """Note that so many images of a chunk are done, of about how many."""
        self._images += images - (self._chunk_images if self._chunk == chunk else 0)
        self._chunk, self._chunk_images, self._chunk_total = chunk, images, total

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, with the last figures unless something failed."""
        self._timer.__exit__(kind, error, trace)
        if kind is None:
            self.show()

    def show(self) -> None:
        """Show it now."""
        try:
            done = self._queue.done()
        except StorageError as error:
            self._log.warning("the progress could not be shown: %s", error)
            return
        is_begun = self._chunk_total > 0 and self._chunk not in done
        begun = min(self._chunk_images / self._chunk_total, 1.0) if is_begun else 0.0
        self._show((len(done) + begun) / max(self._queue.plan.chunks, 1), self._images)

"""What one process does of a run of inference: its share of the chunks, on one version of the model."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tasks.inference.media_inputs import MediaStore
from tasks.inference.object_tracking import Tracker
from tasks.inference.progress import ProgressReporter
from tasks.inference.shares import Share
from tasks.inference.steps import WorkerIO, run_chunks_on_triton
from tasks.inference.work_items import CompletedChunk
from tasks.inference.work_plan import Chunk
from tasks.inference.work_queue import WorkQueue
from tasks.orchestration.current_run import flow_run_id
from tasks.parameters import InferenceParams
from tasks.serving import canary_stats, kept_versions, model_control
from tasks.storage import leases
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore


@dataclass(frozen=True, kw_only=True)
class PinnedRun:
    """The fixed choices of a run, for all processes that do its chunks.

    Attributes:
        canary_run: The flow run of its canary.
        left_out: How many inputs earlier runs have done, by flow run.
    """

    model_name: str
    version: int
    canary_run: str | None
    inference: InferenceParams
    left_out: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return {**vars(self), "inference": self.inference.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the values of `to_dict`."""
        inference = InferenceParams.model_validate(values["inference"])
        return cls(**{**values, "inference": inference, "left_out": Counter(values.get("left_out", {}))})


class ChunkWorker:
    """Does chunks through Triton and commits their results, until its share is done or `should_continue()` is false.

    A lease holds the run's version. If it is served no longer all the same, the champion (`find_champion` gives its
    number) does the rest.
    """

    def __init__(
        self, queue: WorkQueue, folder: Path, find_champion: Callable[[], int], should_continue: Callable[[], bool]
    ) -> None:
        self._queue = queue
        self._folder = folder
        self._find_champion = find_champion
        self._should_continue = should_continue
        self._run = PinnedRun.from_dict(queue.plan.about)
        self._committed = 0

    def process(self, share: Share, show: Callable[[float, int], None]) -> int:
        """Do the chunks of a share; return how many results of this process count.

        Raises:
            ParameterError: The parameters do not fit the model.
            InferenceError: Triton stays away.
        """
        version = self._run.version
        with ProgressReporter(self._queue, show) as progress:
            io = WorkerIO(
                media=MediaStore(),
                commit=self._commit,
                on_progress=progress,
                new_tracker=Tracker if self._run.inference.track else None,
            )
            while self._should_continue() and not share.is_done():
                version = self._work_on(version, share, io)
                kept_versions.unload_unused(self._run.model_name)
        return self._committed

    def _work_on(self, version: int, share: Share, io: WorkerIO) -> int:
        """Do chunks while `version` is served; return the version that is served now."""
        name = self._run.model_name
        with leases.hold_lease(name, version, flow_run_id()):
            model = model_control.first_ready_version(name, self._run.version, self._find_champion())
            if model.version == version:
                run_chunks_on_triton(model, self._run.inference, self._chunks(share), self._folder, io)
        return model.version

    def _chunks(self, share: Share) -> Iterator[Chunk]:
        for chunk in share.chunks():
            if not self._should_continue():
                return
            yield chunk

    def _commit(self, done: CompletedChunk) -> None:
        if self._queue.is_done(done.chunk):  # by another process, whose images belong to the result that counts
            return
        run = self._queue.run
        ObjectStore(Bucket.PREDICTIONS).upload_folder(done.folder, run)
        if not self._queue.commit(done.chunk, done.part):
            return
        self._committed += 1
        if canary_run := self._run.canary_run:
            version = self._run.version
            canary_stats.record_canary_stats(canary_run, run, str(done.chunk), version, done.images, done.detections)


def shard_parameters(run: str, model_name: str, inputs: list[str], inference: InferenceParams) -> list[dict[str, Any]]:
    """Return the parameters of the runs that share the work of flow run `run`; none for `shards` = 1."""
    if inference.shards == 1:
        return []
    base = inference.model_dump(mode="json")
    shards = ({"run": run, "number": number + 1, "of": inference.shards} for number in range(inference.shards))
    return [{"model_name": model_name, "inputs": inputs, "inference": base | {"shard": shard}} for shard in shards]

"""A run of inference: its plan, its own share of the work, and those of the runs that it starts."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tasks.inference import done_inputs
from tasks.inference.media_inputs import list_media_sources
from tasks.inference.postprocess import list_thresholds
from tasks.inference.results.report import left_out_text
from tasks.inference.shares import FixedShare, Share, UnattendedShares
from tasks.inference.work_plan import split_into_chunks
from tasks.inference.work_queue import WorkQueue, create_queue, open_queue
from tasks.inference.worker import ChunkWorker, PinnedRun, shard_parameters
from tasks.orchestration import artifacts, flow_runs, shard_runs
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Shard

FindChampion = Callable[[str], int]


def open_or_plan(run: str, inputs: Sequence[str], pin: Callable[[], PinnedRun]) -> WorkQueue:
    """Return the queue of flow run `run`; a new one gets chunks of all that `inputs` name, and what `pin` gives.

    With `only_new` it has no chunk if earlier runs have done all of it.

    Raises:
        StorageError: An input matches nothing.
    """
    log_step("looking for images and videos")
    if queue := open_queue(run):
        return queue
    pinned = pin()
    sources = list_media_sources(inputs)
    if pinned.inference.only_new:
        done = done_inputs.read_done(pinned.model_name, pinned.version)
        sources = done_inputs.leave_out_done(sources, done, pinned.left_out)
    return create_queue(run, split_into_chunks(sources), pinned.to_dict())


def nothing_new(queue: WorkQueue) -> str:
    """Return the sentence of a run whose inputs are all done already."""
    run = PinnedRun.from_dict(queue.plan.about)
    return f"Nothing new for {run.model_name} version {run.version}: {left_out_text(run.left_out)}"


def detect(queue: WorkQueue, inputs: list[str], folder: Path, find_champion: FindChampion) -> None:
    """Do all chunks of the queue, alone or beside runs that each do a share.

    Raises:
        InferenceError: Triton stays away.
        ParameterError: The parameters do not fit the model.
        Superseded: Another process has been given this flow run, and makes the results.
    """
    run = PinnedRun.from_dict(queue.plan.about)
    log_step("detecting with %s version %s", run.model_name, run.version)
    if thresholds := run.inference.class_confidence:
        log_step("detections count from %s", list_thresholds(thresholds))
    parameters = shard_parameters(queue.run, run.model_name, inputs, run.inference)
    with shard_runs.start_shard_runs(parameters, queue.invite) as are_at_work:
        share = UnattendedShares(queue, are_at_work) if are_at_work else FixedShare(queue)
        _process_chunks(queue, share, folder, find_champion)
        flow_runs.OwnershipGuard().require()


def run_share(shard: Shard, find_champion: FindChampion) -> str:
    """Do a share of another run, which started this one, as its plan says; returns a sentence of what was done.

    Raises:
        InvitationError: The other run has not started this one.
    """
    run = str(shard.run)
    queue = open_queue(run)
    if queue is None or queue.plan.finished:
        return f"flow run {run} was done already"
    queue.require_invited(flow_run_id(), shard.number)
    log_step("taking share %d of flow run %s", shard.number, run)
    share = FixedShare(queue, shard.number - 1, queue.plan.about["inference"]["shards"])
    with scratch_folder("inference") as folder:
        done = _process_chunks(queue, share, folder, find_champion, parent=run)
    return f"{done} chunks of flow run {run}"


def _process_chunks(
    queue: WorkQueue, share: Share, folder: Path, find_champion: FindChampion, parent: str | None = None
) -> int:
    """Do a share of the chunks; returns how many results count."""
    worker = ChunkWorker(
        queue,
        folder,
        find_champion=partial(find_champion, queue.plan.about["model_name"]),
        should_continue=flow_runs.may_continue(parent),
    )
    return worker.process(share, artifacts.RunProgress("pictures"))

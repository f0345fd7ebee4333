"""Images and videos in, detections and a gallery out."""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.inference import publication, shares, work_queue, worker
from tasks.inference.media_inputs import list_media_sources
from tasks.inference.work_plan import split_into_chunks
from tasks.orchestration import artifacts, current_run, flow_runs, outcome, shard_runs
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import InferenceParams, Inputs, ModelName, Shard
from tasks.serving.canary_rules import routes_to_canary
from tasks.tracking import canaries, inference_runs, registry


@flow
@outcome.fail_flow_with_message
def run_inference(model_name: ModelName, inputs: Inputs, inference: InferenceParams = InferenceParams()) -> State:
    """Detect with the champion, pinned for the whole run, and write `s3://predictions/<flow run id>/`.

    While deploy-model tries a new version out, a share of the runs gets that one. A run that is tried again goes on
    with what is missing; with `inference.shards` other runs of this deployment share the work.

    `inputs` are keys, prefixes that end in `/`, or globs in bucket `media`: images, zips of images, videos.
    """
    if inference.shard:
        return _run_share(inference.shard)
    run = current_run.flow_run_id()
    if not publication.is_published(run):
        current_run.log_step("looking for images and videos")
        queue = work_queue.open_queue(run) or _plan(run, model_name, inputs, inference)
        parameters = worker.shard_parameters(run, model_name, inputs, inference)
        with scratch_folder("inference") as folder:
            current_run.log_step("detecting with %s version %s", model_name, queue.plan.about["version"])
            with shard_runs.start_shard_runs(parameters, queue.invite) as are_at_work:
                share = shares.UnattendedShares(queue, are_at_work) if are_at_work else shares.FixedShare(queue)
                _work(queue, share, folder)
            _publish(queue, folder, model_name)
    work_queue.finish(run)
    return _end(run, inference.max_failure_share)


def _plan(run: str, model_name: str, inputs: Inputs, inference: InferenceParams) -> work_queue.WorkQueue:
    """The chunks of a new run, and what holds for all of them: the champion, or the version that a canary gives it."""
    version = registry.find_version(model_name, registry.CHAMPION).version
    canary = canaries.find_canary(model_name)
    is_canary = canary is not None and routes_to_canary(canary, run)
    pinned = worker.PinnedRun(
        model_name=model_name,
        version=canary.version if canary and is_canary else version,
        trial=canary.flow_run_id if canary else None,
        inference=inference,
    )
    return work_queue.create_queue(run, split_into_chunks(list_media_sources(inputs)), pinned.to_dict())


def _work(queue: work_queue.WorkQueue, share: shares.Share, folder: Path, parent: str | None = None) -> int:
    """Do a share of the chunks; returns how many results count."""
    name = queue.plan.about["model_name"]
    chunk_worker = worker.ChunkWorker(
        queue,
        folder,
        find_champion=lambda: registry.find_version(name, registry.CHAMPION).version,
        should_continue=flow_runs.may_continue(parent),
    )
    return chunk_worker.work(share, artifacts.RunProgress("pictures"))


def _run_share(shard: Shard) -> State:
    """Do a share of another run, which started this one, as its plan says; that run merges the results."""
    run = str(shard.run)
    queue = work_queue.open_queue(run)
    if queue is None or queue.plan.finished:
        return outcome.completed(f"flow run {run} was done already")
    queue.require_invited(current_run.flow_run_id(), shard.number)
    current_run.log_step("taking share %d of flow run %s", shard.number, run)
    share = shares.FixedShare(queue, shard.number - 1, queue.plan.about["inference"]["shards"])
    with scratch_folder("inference") as folder:
        done = _work(queue, share, folder, parent=run)
    return outcome.completed(f"{done} chunks of flow run {run}")


def _publish(queue: work_queue.WorkQueue, folder: Path, model_name: str) -> None:
    """Merge the results, and show what was found."""
    current_run.log_step("merging the results and making the gallery")
    published = publication.publish_results(queue, folder, model_name)
    artifacts.show_link("gallery", published.gallery, "Open the gallery")
    links = inference_runs.record_inference(current_run.flow_run_name(), published)
    artifacts.show_markdown("inference-report", published.to_markdown(links))
    published.complete()


def _end(run: str, max_failure_share: float) -> State:
    stored = publication.read_summary(run)
    if stored.failure_share > max_failure_share:
        return outcome.failed(
            f"{stored.sentence}: more than max_failure_share {max_failure_share:g} allows. "
            f"The first: {stored.first_failure} {stored.gallery}"
        )
    failures = stored.failed_inputs
    return outcome.completed(stored.sentence, f"Completed with {failures} failures" if failures else None)

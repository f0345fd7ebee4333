"""Images and videos in, detections and a gallery out."""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.inference import media_inputs, object_tracking, work_queue
from tasks.inference.results.gallery import count_gallery_items, linked_files, write_gallery
from tasks.inference.results.report import StoredSummary, inference_markdown, summary_json
from tasks.inference.steps import WorkerIO, merge_results, run_chunks_on_triton
from tasks.inference.work_items import CompletedChunk
from tasks.inference.work_plan import split_into_chunks
from tasks.inference.work_queue import Job
from tasks.orchestration import artifacts, current_run, flow_runs, helper_runs, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import InferenceParams, Inputs, ModelName, Shard
from tasks.rendering.links import links_markdown
from tasks.serving import canary_stats, kept_versions, model_control
from tasks.serving.canary_rules import routes_to_canary
from tasks.serving.served_model import ServedModel
from tasks.storage import leases, objects
from tasks.storage.object_names import Bucket
from tasks.tracking import canaries, inference_runs, registry
from tasks.tracking.links import page_links


@flow
@outcome.fail_flow_with_message
def run_inference(model_name: ModelName, inputs: Inputs, inference: InferenceParams = InferenceParams()) -> State:
    """Detect with the champion, pinned for the whole run, and write `s3://predictions/<flow run id>/`.

    While deploy-model tries a new version out, a share of the runs gets that one. A run that is tried again goes on
    with what is missing; with `inference.shards` other runs of this deployment share the work.

    `inputs` are keys, prefixes that end in `/`, or globs in bucket `media`: images, zips of images, videos.
    """
    if inference.shard:
        return _run_as_helper(inference.shard)
    run = current_run.flow_run_id()
    if not objects.object_exists(Bucket.PREDICTIONS, f"{run}/summary.json"):
        current_run.log_step("looking for images and videos")
        job = work_queue.open_job(run) or work_queue.plan(
            run, split_into_chunks(media_inputs.list_media_sources(inputs)), _choose_version(model_name, inference, run)
        )
        shares = _helper_parameters(model_name, inputs, inference, run)
        with scratch_folder("inference") as folder:
            current_run.log_step("detecting with %s version %s", model_name, job.plan.about["version"])
            with helper_runs.start_helper_runs(shares, job.invite):
                _process_chunks(job, 0, folder)
            _publish(job, model_name, folder)
    work_queue.finish(run)
    stored = StoredSummary.from_json(objects.read_text(Bucket.PREDICTIONS, f"{run}/summary.json"))
    if stored.failure_share > inference.max_failure_share:
        return outcome.failed(
            f"{stored.sentence}: more than max_failure_share {inference.max_failure_share:g} allows. "
            f"The first: {stored.first_failure} {stored.gallery}"
        )
    failures = stored.failed_inputs
    return outcome.completed(stored.sentence, f"Completed with {failures} failures" if failures else None)


def _choose_version(model_name: str, inference: InferenceParams, run: str) -> dict[str, object]:
    """Which version a new run gets and how it is asked, by whoever takes part, and whose trial it counts in."""
    champion = registry.find_version(model_name, registry.CHAMPION).version
    trial = canaries.find_canary(model_name)
    version = trial.version if trial and routes_to_canary(trial, run) else champion
    return {
        "model_name": model_name,
        "version": version,
        "trial": trial.flow_run_id if trial else None,
        "inference": inference.model_dump(mode="json"),
    }


def _helper_parameters(
    model_name: str, inputs: Inputs, inference: InferenceParams, run: str
) -> list[dict[str, object]]:
    """The parameters of the runs that share the work of this one."""
    if inference.shards == 1:
        return []
    shards = (
        Shard.model_validate({"run": run, "number": n + 1, "of": inference.shards}) for n in range(inference.shards)
    )
    params = (inference.model_copy(update={"shard": shard}).model_dump(mode="json") for shard in shards)
    return [{"model_name": model_name, "inputs": inputs, "inference": each} for each in params]


def _run_as_helper(shard: Shard) -> State:
    """Work on the chunks of another run, which asked for it, as its plan says; that run merges the parts."""
    job = work_queue.open_job(str(shard.run))
    if job is None or job.plan.finished:
        return outcome.completed(f"flow run {shard.run} was done already")
    job.require_invited(current_run.flow_run_id(), shard.number)
    current_run.log_step("taking share %d of flow run %s", shard.number, shard.run)
    with scratch_folder("inference") as folder:
        done = _process_chunks(job, shard.number, folder)
    return outcome.completed(f"{done} chunks of flow run {shard.run}")


def _process_chunks(job: Job, share: int, folder: Path) -> int:
    """Take chunks until all are done, by whomever; returns how many were done here."""
    model_name: str = job.plan.about["model_name"]
    inference = InferenceParams.model_validate(job.plan.about["inference"])
    workers = 1 if inference.shards == 1 else inference.shards + 1
    owner, trial, done = flow_runs.OwnershipGuard(), job.plan.about["trial"], 0
    version: int = job.plan.about["version"]

    @flow_runs.throttle
    def goes_on() -> bool:
        owner()
        owner.stop_if_suspended()
        return share == 0 or flow_runs.flow_run_accepts_helpers(job.run)

    def commit(made: CompletedChunk) -> None:
        nonlocal done
        if job.is_done(made.chunk):  # by another, whose pictures belong to the part that counts
            return
        objects.upload_folder(made.folder, Bucket.PREDICTIONS, job.run)
        if job.commit(made.chunk, made.part):
            done += 1
            if trial:
                canary_stats.record_canary_stats(
                    trial, job.run, str(made.chunk), version, made.pictures, made.detections
                )

    with work_queue.Telling(job, share, artifacts.RunProgress("pictures")) as told:
        outside = WorkerIO(
            media_inputs.MediaStore(), commit, told, object_tracking.new_tracker if inference.track else None
        )
        while goes_on() and not job.is_over():
            with leases.hold_lease(model_name, version, current_run.flow_run_id()):
                model = _resolve_served_version(job, model_name)
                if model.version == version:
                    run_chunks_on_triton(model, inference, job.left(share, workers, goes_on), folder, outside)
                version = model.version
            kept_versions.unload_unused(model_name)
    return done


def _resolve_served_version(job: Job, model_name: str) -> ServedModel:
    """The version that the run began with, or the champion where that is served no longer."""
    champion = registry.find_version(model_name, registry.CHAMPION)
    return model_control.first_ready_version(model_name, job.plan.about["version"], champion.version)


def _publish(job: Job, model_name: str, folder: Path) -> None:
    """Merge the parts, and show what was found."""
    current_run.log_step("merging the results and making the gallery")
    results = folder / "results"
    summary = merge_results(job.parts(folder), results)
    links = objects.presigned_urls(Bucket.PREDICTIONS, job.run, linked_files(results))
    write_gallery(results / "index.html", summary, count_gallery_items(results), links, model_name=model_name)
    objects.upload_folder(results, Bucket.PREDICTIONS, job.run)
    gallery = objects.presigned_url(Bucket.PREDICTIONS, f"{job.run}/index.html")

    artifacts.show_link("gallery", gallery, "Open the gallery")
    told = summary, model_name, gallery, f"s3://{Bucket.PREDICTIONS}/{job.run}/"
    newest = max(summary.versions, default=None)
    note = inference_markdown(*told, links_markdown(page_links(job.run, None, model_name, newest)))
    recorded = inference_runs.record_inference(job.run, current_run.flow_run_name(), model_name, summary, note)
    shown = links_markdown(page_links("", recorded, model_name, newest))
    artifacts.show_markdown("inference-report", inference_markdown(*told, shown))
    objects.write_text(summary_json(summary, model_name, gallery), Bucket.PREDICTIONS, f"{job.run}/summary.json")

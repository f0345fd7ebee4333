"""Images and videos in, detections and a gallery out."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.inference import image_lists, publication, session, work_queue
from tasks.orchestration import artifacts, current_run, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import InferenceParams, Inputs, ModelName
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
        return outcome.completed(session.run_share(inference.shard, registry.champion_version))
    run = current_run.flow_run_id()
    if not publication.is_published(run):
        queue = session.open_or_plan(run, inputs, lambda: canaries.pin_version(model_name, run, inference))
        if not queue.plan.chunks:
            work_queue.finish(run)
            return outcome.completed(session.nothing_new(queue))
        with scratch_folder("inference") as folder:
            session.detect(queue, inputs, folder, registry.champion_version)
            current_run.log_step("merging the results and making the gallery")
            published = publication.publish_results(queue, folder, model_name)
        artifacts.show_link("gallery", published.gallery, "Open the gallery")
        chosen = image_lists.are_chosen(inputs, current_run.flow_run_tags())
        links = inference_runs.record_inference(current_run.flow_run_name(), published, chosen=chosen)
        artifacts.show_markdown("inference-report", published.to_markdown(links))
        published.complete()
    work_queue.finish(run)
    publication.announce_results(run)
    return _end(run, inference.max_failure_share)


def _end(run: str, max_failure_share: float) -> State:
    stored = publication.read_summary(run)
    if stored.failure_share > max_failure_share:
        return outcome.failed(
            f"{stored.sentence}: more than max_failure_share {max_failure_share:g} allows. "
            f"The first: {stored.first_failure} {stored.gallery}"
        )
    publication.count_inputs_as_done(run)
    failures = stored.failed_inputs
    return outcome.completed(stored.sentence, f"Completed with {failures} failures" if failures else None)

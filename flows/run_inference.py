"""Images and videos in, detections and a gallery out."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import inference as detection
from tasks import reporting
from tasks.core.buckets import Bucket
from tasks.core.canary import is_chosen
from tasks.core.gallery import render_gallery
from tasks.core.inference_page import inference_markdown, inference_sentence, summary_json
from tasks.core.parameters import InferenceParams, Inputs, ModelName
from tasks.core.scratch import scratch_folder
from tasks.serving import control
from tasks.storage import objects as storage
from tasks.storage import tallies
from tasks.tracking import canaries, registry


@flow
@reporting.fails_with_reason
def run_inference(model_name: ModelName, inputs: Inputs, inference: InferenceParams = InferenceParams()) -> State:
    """Detect with the champion, pinned for the whole run, and write `s3://predictions/<flow run id>/`.

    While deploy-model tries a new version out, a share of the runs gets that one.

    `inputs` are keys, prefixes that end in `/`, or globs in bucket `media`: images, zips of images, videos.
    """
    place = reporting.flow_run_id()
    with scratch_folder("inference") as folder:
        media = storage.fetch_media(storage.list_media(inputs), folder / "media")
        champion = registry.find_version(model_name, registry.CHAMPION)
        canary = canaries.find_canary(model_name)
        tried = [canary.version] if canary and is_chosen(canary, place) else []
        model = control.served_model(model_name, *tried, champion.version)
        try:
            summary = detection.detect(model, media, folder / "results", inference)
        finally:  # what was done before Triton went away is worth keeping
            links = storage.upload_folder(folder / "results", Bucket.PREDICTIONS, place)

    page = render_gallery(summary, model, links)
    gallery = storage.write_text(page, Bucket.PREDICTIONS, f"{place}/index.html")
    storage.write_text(summary_json(summary, model, gallery), Bucket.PREDICTIONS, f"{place}/summary.json")
    reporting.show_link("gallery", gallery, "Open the gallery")
    reporting.show_markdown(
        "inference-report", inference_markdown(summary, model, gallery, f"s3://predictions/{place}/")
    )
    if canary:
        pictures = summary.images + summary.frames
        tallies.keep_tally(canary.flow_run_id, place, model.version, pictures, summary.detections)
    sentence = inference_sentence(summary)
    if summary.failure_share > inference.max_failure_share:
        return reporting.failed(
            f"{sentence}: more than max_failure_share {inference.max_failure_share:g} allows. {gallery}"
        )
    failures = summary.failed_inputs
    return reporting.completed(sentence, f"Completed with {failures} failures" if failures else None)

"""The results of a run in bucket `predictions`, below its id: tables, gallery, and last of all `summary.json`."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.inference import done_inputs
from tasks.inference.postprocess import describe_thresholds
from tasks.inference.results.chunk_reader import FAILURES, PICTURES, PREDICTIONS
from tasks.inference.results.chunk_results import merge_chunk_results
from tasks.inference.results.gallery import linked_files, read_gallery_items, write_gallery
from tasks.inference.results.report import StoredSummary, inference_markdown, summary_json
from tasks.inference.results.summary import InferenceSummary
from tasks.inference.work_queue import WorkQueue
from tasks.inference.worker import PinnedRun
from tasks.orchestration import events
from tasks.parameters import InferenceParams
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore

_PREDICTIONS = ObjectStore(Bucket.PREDICTIONS)


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Results that are stored, all but `summary.json`; `gallery` is a link to the page that shows them."""

    run: str
    model_name: str
    summary: InferenceSummary
    gallery: str
    inference: InferenceParams

    @property
    def newest_version(self) -> int | None:
        """The newest version that answered; None if none did."""
        return max(self.summary.versions, default=None)

    def to_markdown(self, links: str) -> str:
        """Return the report, with these links."""
        folder = f"s3://{Bucket.PREDICTIONS}/{self.run}/"
        return inference_markdown(self.summary, self.model_name, self.gallery, folder, links)

    def complete(self) -> None:
        """Write `summary.json`, which makes the run published."""
        inference = self.inference.model_dump(mode="json")
        text = summary_json(self.summary, self.model_name, self.gallery, inference)
        _PREDICTIONS.put(_summary_key(self.run), text.encode(), "application/json")


def publish_results(queue: WorkQueue, folder: Path, model_name: str) -> Publication:
    """Merge the results of all chunks, write the gallery, and upload both."""
    results = folder / "results"
    merged = merge_chunk_results(queue.results(folder), results)
    pinned = PinnedRun.from_dict(queue.plan.about)
    summary = replace(merged, left_out=pinned.left_out)
    done_inputs.write_record(results, queue.chunks())
    files = set(linked_files(results))
    urls = _PREDICTIONS.presigned_urls(f"{queue.run}/{file}" for file in files)
    links = {file: urls[f"{queue.run}/{file}"] for file in files}
    write_gallery(
        results / "index.html",
        summary,
        read_gallery_items(results),
        links,
        model_name=model_name,
        thresholds=describe_thresholds(pinned.inference),
    )
    _PREDICTIONS.upload_folder(results, queue.run)
    gallery = _PREDICTIONS.presigned_url(f"{queue.run}/index.html")
    return Publication(
        run=queue.run, model_name=model_name, summary=summary, gallery=gallery, inference=pinned.inference
    )


def is_published(run: str) -> bool:
    """Whether the results of a flow run are all stored."""
    return _PREDICTIONS.exists(_summary_key(run))


def read_summary(run: str) -> StoredSummary:
    """Return the summary of a run that is published."""
    return StoredSummary.from_json(_PREDICTIONS.read_text(_summary_key(run)))


def find_parameters(run: str) -> InferenceParams | None:
    """Return the parameters of a run that is published; None if it does not say them, as of an earlier release."""
    body = _PREDICTIONS.get(_summary_key(run))
    try:
        return InferenceParams.model_validate(json.loads(body)["inference"]) if body else None
    except (ValueError, LookupError, TypeError):
        return None


def fetch_results(run: str, folder: Path) -> Path:
    """Return a folder in `folder` with what a published run has found, as `predicted_images` reads it."""
    for name in (PICTURES, PREDICTIONS, FAILURES):
        (folder / run).mkdir(parents=True, exist_ok=True)
        _PREDICTIONS.download(f"{run}/{name}", folder / run / name)
    return folder / run


def announce_results(run: str) -> None:
    """Emit `inference.completed` for a run that is published, once."""
    stored = read_summary(run)
    related = [events.model(stored.model_name)]
    if stored.model_version is not None:
        related.append(events.version(stored.model_name, stored.model_version))
    events.emit(
        events.INFERENCE_COMPLETED,
        events.prediction(run),
        payload={
            "model": stored.model_name,
            "version": stored.model_version,
            "run": run,
            "inputs": stored.inputs,
            "detections": stored.detections,
            "failures": stored.failed_inputs,
            "gallery": stored.gallery,
        },
        key=run,
        related=related,
    )


def count_inputs_as_done(run: str) -> None:
    """Have later runs with `only_new` leave out what a published run has done."""
    stored = read_summary(run)
    done_inputs.count_as_done(run, stored.model_name, stored.model_versions)


def _summary_key(run: str) -> str:
    return f"{run}/summary.json"

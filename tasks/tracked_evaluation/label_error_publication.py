"""What a search for label errors leaves: its page, its figures, and an archive for review."""

import json
from pathlib import Path

from tasks.evaluation.label_error_page import (
    JudgedLabels,
    label_error_markdown,
    label_error_page,
    write_review_archive,
)
from tasks.orchestration import artifacts
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.step import retried
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracked_evaluation.out_of_fold import PredictedSet
from tasks.tracked_evaluation.subjects import Subject
from tasks.tracking.links import page_links
from tasks.tracking.version_pages import VersionPage, keep_page

PAGE = "label-errors.html"


def publish_label_errors(subject: Subject, judged: JudgedLabels, predicted: PredictedSet, folder: Path) -> None:
    """Write page, figures and archive to bucket `runs`, and show artifact `label-errors`.

    Raises:
        StudioError: The object store cannot be reached.
    """
    log_step("drawing %d labels that look wrong", len(judged.shown))
    version = subject.version
    run = flow_run_id()
    facts = {
        "archives": dict(judged.data.digests),
        "model": version.name,
        "version": version.version,
        "out_of_fold": bool(predicted.folds),
        "map50": judged.map50,
        "flow_run_id": run,
    }
    remarks = predicted.remarks
    page = label_error_page(f"{version.name} version {version.version}", judged, predicted.folds, remarks)
    figures = facts | {"remarks": remarks, "label_errors": [judged.facts(error) for error in judged.errors]}
    text = json.dumps(figures, indent=2)
    links = {
        "Labels that look wrong": retried(storage_steps.write_text)(page, Bucket.RUNS, f"{run}/{PAGE}"),
        "As JSON": retried(storage_steps.write_text)(text, Bucket.RUNS, f"{run}/label-errors.json"),
    }
    if judged.errors:
        review = folder / "review.zip"
        write_review_archive(judged, review, facts)
        links["Their images as an archive"] = storage_steps.upload_file(review, Bucket.RUNS, f"{run}/label-errors.zip")
    keep_page(version, VersionPage(name=PAGE, run=run, archives=judged.data.digests, split=judged.data.split))
    links |= page_links(run, version.run_id, version.name, version.version)
    artifacts.show_markdown("label-errors", f"{links_markdown(links)}\n\n{label_error_markdown(judged, remarks)}")

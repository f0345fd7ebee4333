"""What a run of label-images leaves: its page, its archive, and the list of images that it is not sure about."""

from pathlib import Path

from tasks.dataset_watch import steps as watch_steps
from tasks.dataset_watch import uploads
from tasks.files import sha256_of
from tasks.importing.publication import publish_archive
from tasks.inference.image_lists import ImageList, write_image_list
from tasks.labelling.labelled_archive import Labelling
from tasks.labelling.page import LabellingReport, labelling_markdown, labelling_page
from tasks.orchestration import artifacts
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried
from tasks.parameters import ValidationPolicy
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracking.links import page_links
from tasks.validation import steps as validation_steps

PAGE = "labelling.html"


def publish_report(report: LabellingReport, run_id: str, predictions_run: str | None) -> None:
    """Write the page and the list of images for review to bucket `runs`, and show artifact `labelling`.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    run = flow_run_id()
    listed = tuple(report.labelling.listed)
    write_image_list(run, ImageList(images=listed, predictions_run=predictions_run))
    address = retried(storage_steps.write_text)(labelling_page(report), Bucket.RUNS, f"{run}/{PAGE}")
    links = {"Report": address, **page_links("", run_id, report.model_name, report.plan.version)}
    artifacts.show_markdown("labelling", f"{links_markdown(links)}\n\n{labelling_markdown(report, run)}")


def publish_labelled(path: Path, key: str, labelling: Labelling) -> None:
    """Check the archive, and put it into bucket `datasets`, whole or not at all; without an image there is none.

    Raises:
        StudioError: The check finds errors, another archive has the name, or the object store does not answer.
    """
    if not labelling.archived:
        return
    digest = sha256_of(path)
    checked = validation_steps.check_archive(path, key, digest, ValidationPolicy())
    page = storage_steps.write_text(checked.page, Bucket.RUNS, f"{flow_run_id()}/report.html")
    validation_steps.require_valid(checked.report, page)
    publish_archive(path, key)
    uploads.announce_upload(key, digest, path)
    watch_steps.start_check(key)

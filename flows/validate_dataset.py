"""Is this archive fit to train on?"""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.dataset_watch import uploads
from tasks.orchestration import artifacts, current_run, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Archive, ValidationPolicy
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracking import validation_runs
from tasks.tracking.links import page_links
from tasks.validation import check_records
from tasks.validation import steps as validation_steps
from tasks.validation.report.markdown import report_markdown


@flow
@outcome.fail_flow_with_message
def validate_dataset(archive: Archive, policy: ValidationPolicy = ValidationPolicy()) -> State:
    """Check a dataset archive, all faults at once; the run's state name is the verdict.

    `archive` is a key in bucket `datasets` or an `s3://` address.
    """
    current_run.log_step("checking %s", archive)
    with scratch_folder("validate") as folder:
        path, digest, etag = storage_steps.fetch_archive(archive, folder)
        uploads.announce_upload(archive, digest, path)
        checked = validation_steps.check_archive(path, archive, digest, policy)
    report = checked.report
    run = current_run.flow_run_id()
    facts = storage_steps.write_text(report.model_dump_json(indent=2), Bucket.RUNS, f"{run}/report.json")
    page = storage_steps.write_text(checked.page, Bucket.RUNS, f"{run}/report.html")
    check_records.record_check(report, etag, run)
    recorded = validation_runs.record_dataset(report, checked.page, run)
    links = links_markdown(page_links(run_id=recorded))
    artifacts.show_markdown("dataset-report", report_markdown(report, page, facts, checked.earlier, links))
    validation_steps.announce_verdict(report, page, run)
    return validation_steps.verdict_state(report, checked.earlier)

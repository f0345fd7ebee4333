"""Checks of archives, as runs of experiment `datasets`, one for the same bytes."""

from typing import Any

from tasks.dataset.findings import Report
from tasks.orchestration.step import retried_step
from tasks.rendering.links import links_markdown
from tasks.tracking.links import page_links
from tasks.tracking.mlflow_client import DATASETS, TrackingError, experiment_id, log_batch, logger, tracking_errors
from tasks.validation.report.markdown import report_sentence
from tasks.validation.report.metrics import report_metrics


def record_dataset(report: Report, page: str, flow_run_id: str) -> str | None:
    """Write the newest check into the one run of these bytes; returns its id, None if MLflow stays away."""
    try:
        return write_check(report, page, flow_run_id)
    except TrackingError as error:
        logger().warning("%s The verdict stands all the same.", error)
        return None


@retried_step
def write_check(report: Report, page: str, flow_run_id: str) -> str:
    """Write a check into the one run of its bytes; returns the id of that run.

    Raises:
        TrackingError: MLflow refuses it, or stays away.
    """
    tags = {
        "digest": report.digest,
        "archive": report.archive,
        "verdict": report.verdict.value,
        "task": str(report.statistics.task),
        "flow_run_id": flow_run_id,
        "mlflow.note.content": f"{report_sentence(report)[:4000]}\n\n{links_markdown(page_links(flow_run_id))}",
    }
    with tracking_errors(f"recording the check of {report.archive}") as mlflow:
        run_id = _dataset_run(mlflow, report)
        log_batch(mlflow, run_id, report_metrics(report), tags)
        mlflow.log_text(run_id, page, "report.html")
        mlflow.log_text(run_id, report.model_dump_json(indent=2), "report.json")
        mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def _dataset_run(mlflow: Any, report: Report) -> str:  # noqa: ANN401
    """The run of a digest; of two made at the same moment the older one stays."""

    def known() -> list[str]:
        order = ["attributes.start_time ASC", "attributes.run_id"]
        runs = mlflow.search_runs([experiment], f"tags.digest = '{report.digest}'", order_by=order)
        return [run.info.run_id for run in runs]

    experiment = experiment_id(mlflow, DATASETS)
    if runs := known():
        return runs[0]
    made: str = mlflow.create_run(experiment, run_name=report.archive, tags={"digest": report.digest}).info.run_id
    first = next(iter(known()), made)
    if first != made:
        mlflow.delete_run(made)
    return first

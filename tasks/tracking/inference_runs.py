"""Inferences, as runs of experiment `inference`."""

from prefect import runtime

from tasks.inference.publication import Publication
from tasks.orchestration.step import step
from tasks.rendering.links import links_markdown
from tasks.tracking.links import page_links
from tasks.tracking.mlflow_client import INFERENCE, best_effort, experiment_id, log_batch


@step
def record_inference(name: str, published: Publication) -> str:
    """Write the run of a flow run, once; returns links to its pages, as Markdown. Never raises."""
    summary = published.summary
    model_name = published.model_name
    note = published.to_markdown(links_markdown(page_links(published.run, None, model_name, published.newest_version)))
    metrics = {
        "images": summary.images,
        "frames": summary.frames,
        "detections": summary.detections,
        "failed_inputs": summary.failed_inputs,
        "images_per_second": summary.images_per_second,
    }
    tags = {
        "flow_run_id": published.run,
        "model": model_name,
        "versions": ", ".join(map(str, summary.versions)),
        "mlflow.note.content": note,
    }
    run_id: str | None = None
    with best_effort(f"run {name}") as mlflow:
        experiment = experiment_id(mlflow, INFERENCE)
        is_first = runtime.flow_run.run_count == 1  # a search is slower than all the rest
        earlier = [] if is_first else mlflow.search_runs([experiment], f"tags.flow_run_id = '{published.run}'")
        run = earlier[0].info if earlier else mlflow.create_run(experiment, run_name=name).info
        run_id = run.run_id
        log_batch(mlflow, run_id, metrics, tags, time_ms=run.start_time)
        mlflow.set_terminated(run_id)
    return links_markdown(page_links("", run_id, model_name, published.newest_version))

"""Inferences, as runs of experiment `inference`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect import runtime

from tasks.inference.publication import Publication
from tasks.orchestration.step import step
from tasks.rendering.links import links_markdown
from tasks.tracking.links import page_links
from tasks.tracking.mlflow_client import INFERENCE, best_effort, experiment_id, log_batch, quoted, search_runs

_FIGURES = {"inputs", "images", "frames", "detections", "failed_inputs"}
_CHOSEN = "chosen"
_ID = re.compile(r"[0-9a-f-]{36}")


@step
def record_inference(name: str, published: Publication, *, chosen: bool) -> str:
    """Write the run of a flow run, once; returns links to its pages, as Markdown. Never raises.

    Args:
        name: That of the run.
        published: Its results.
        chosen: Whether its images were chosen for people to correct.
    """
    summary = published.summary
    model_name = published.model_name
    note = published.to_markdown(links_markdown(page_links(published.run, None, model_name, published.newest_version)))
    metrics = {
        "inputs": summary.inputs,
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
        "images": _CHOSEN if chosen else "all",
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


@dataclass(frozen=True, kw_only=True)
class InferenceRun:
    """A run of inference as MLflow has it; `run_id` is its run there, `flow_run_id` that in Prefect.

    `figures` and `images_per_second` are those that `record_inference` logs, as far as they are known. Its images were
    `chosen` for people to correct, or not, as those of an earlier release are taken for.
    """

    run_id: str
    flow_run_id: str
    model: str
    versions: tuple[int, ...]
    created: datetime
    figures: Mapping[str, int]
    images_per_second: float | None = None
    chosen: bool

    @property
    def position(self) -> tuple[str, str]:
        """Where it stands in a list, the newest first: its date in milliseconds since 1970, and its run."""
        return str(round(1000 * self.created.timestamp())), self.run_id


def list_inference_runs(model: str = "", behind: tuple[str, str] | None = None) -> Iterator[InferenceRun]:
    """Yield the runs of inference, with one model or with any, the newest first, behind a `position`.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    filters = [f"tags.model = {quoted(model)}"] if model else []
    if behind:
        filters.append(f"attributes.start_time <= {int(behind[0])}")
    order = ["attributes.start_time DESC", "attributes.run_id ASC"]
    for run in map(_inference_run, search_runs(INFERENCE, " and ".join(filters), order)):
        if run.flow_run_id and (behind is None or _is_behind(run, behind)):
            yield run


def find_inference_run(flow_run_id: str) -> InferenceRun | None:
    """Return the run of inference of a flow run; None if MLflow has none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    if not _ID.fullmatch(flow_run_id):
        return None
    return next(map(_inference_run, search_runs(INFERENCE, f"tags.flow_run_id = '{flow_run_id}'", [])), None)


def _inference_run(run: Any) -> InferenceRun:  # noqa: ANN401
    tags = run.data.tags
    return InferenceRun(
        run_id=run.info.run_id,
        flow_run_id=tags.get("flow_run_id", ""),
        model=tags.get("model", ""),
        versions=tuple(int(version) for version in tags.get("versions", "").split(", ") if version.isdecimal()),
        created=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        figures={name: int(value) for name, value in run.data.metrics.items() if name in _FIGURES},
        images_per_second=run.data.metrics.get("images_per_second"),
        chosen=tags.get("images") == _CHOSEN,
    )


def _is_behind(run: InferenceRun, behind: tuple[str, str]) -> bool:
    return (-int(run.position[0]), run.run_id) > (-int(behind[0]), behind[1])

"""Deployments, rollbacks and undeployments, as runs of experiment `serving`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.errors import AwaitsAnswer
from tasks.orchestration.step import step
from tasks.rendering.links import links_markdown
from tasks.rendering.markdown import escape_markdown
from tasks.settings import Settings
from tasks.tracking.links import page_links
from tasks.tracking.mlflow_client import SERVING, best_effort, experiment_id, log_batch, quoted, search_runs
from tasks.tracking.payloads import truncate


@dataclass(kw_only=True)
class RolloutRecord:
    """A change of the served versions of a model, filled on the way and written to MLflow at its end.

    `outcome` is the sentence that people read; `pages` are texts by file name.
    """

    action: str
    model_name: str
    flow_run_id: str
    version: int | None = None
    outcome: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Action, model and version in words."""
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.action} {self.model_name}{version}"


@dataclass(frozen=True, kw_only=True)
class PastRollout:
    """A change of what is served of a model, as MLflow has it; `version` is the one that clients have got."""

    action: str
    model: str
    version: int | None
    flow_run_id: str
    created: datetime


def list_rollouts(model: str) -> list[PastRollout]:
    """Return the changes of what is served of a model, the oldest first, without those that were refused.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    condition = f"tags.model = {quoted(model)} and attributes.status = 'FINISHED'"
    rollouts = map(_past_rollout, search_runs(SERVING, condition, ["attributes.start_time ASC"]))
    return list({rollout.flow_run_id: rollout for rollout in rollouts}.values())


def find_rollout(flow_run_id: str) -> PastRollout | None:
    """Return the change that a flow run, by its UUID, made of what is served; None if it made none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    condition = f"tags.flow_run_id = '{flow_run_id}' and attributes.status = 'FINISHED'"
    return next(map(_past_rollout, search_runs(SERVING, condition, [])), None)


def _past_rollout(run: Any) -> PastRollout:  # noqa: ANN401
    tags = run.data.tags
    return PastRollout(
        action=tags.get("action", ""),
        model=tags.get("model", ""),
        version=int(tags["version"]) if tags.get("version", "").isdecimal() else None,
        flow_run_id=tags.get("flow_run_id", ""),
        created=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
    )


@contextmanager
def recorded_rollout(action: str, model_name: str, flow_run_id: str) -> Iterator[RolloutRecord]:
    """Write the record, filled by the block, and how the block ended; a refusal by MLflow is only logged."""
    record = RolloutRecord(action=action, model_name=model_name, flow_run_id=flow_run_id)
    status = "KILLED"
    started = time.time()
    try:
        yield record
        status = "FINISHED"
    except AwaitsAnswer:
        status = "SCHEDULED"  # nothing was changed; the attempt that goes on with the answer has a record of its own
        raise
    except Exception as error:
        status = "FAILED"
        record.outcome = str(error)
        raise
    finally:
        write_rollout_record(record, status, started)


def rollout_link(flow_run_id: str) -> dict[str, str]:
    """Return the address of the run of a rollout, which exists when it has ended, by the text of the link."""
    links = {}
    with best_effort("the address of a rollout") as mlflow:
        experiment = experiment_id(mlflow, SERVING)
        address = Settings().addresses.tracked_runs(experiment, f'tags.flow_run_id = "{flow_run_id}"')
        links["Pictures, in the run of this deployment"] = address
    return links


@step
def write_rollout_record(record: RolloutRecord, status: str, started: float) -> None:
    """Write a run of experiment `serving`, which ended with `status`; never raises."""
    links = links_markdown(page_links(record.flow_run_id, None, record.model_name, record.version))
    tags = {
        "action": record.action,
        "model": record.model_name,
        "version": str(record.version or ""),
        "flow_run_id": record.flow_run_id,
        "mlflow.note.content": f"{truncate(escape_markdown(record.outcome), 4000)}\n\n{links}",
        **record.tags,
    }
    with best_effort(record.name) as mlflow:
        experiment = experiment_id(mlflow, SERVING)
        known = {"flow_run_id": record.flow_run_id}  # by which the page is linked, also if this process dies now
        run = mlflow.create_run(experiment, start_time=int(started * 1000), tags=known, run_name=record.name)
        run_id = run.info.run_id
        log_batch(mlflow, run_id, record.metrics, tags)
        for file, text in record.pages.items():
            mlflow.log_text(run_id, text, file)
        mlflow.set_terminated(run_id, status)

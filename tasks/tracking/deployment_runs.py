"""Who served when: each deployment, roll-back and undeployment is a run of experiment `serving`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.rendering.links import links_markdown
from tasks.settings import Settings
from tasks.tracking.links import page_links
from tasks.tracking.mlflow_client import SERVING, best_effort, client, experiment_id
from tasks.tracking.payloads import MAX_RUN_TAG, truncate


@dataclass
class RolloutRecord:
    """What is being done about a model: filled as it goes on, kept when it ends.

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
        """Action, model and version."""
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.action} {self.model_name}{version}"


@contextmanager
def recorded_rollout(action: str, model_name: str, flow_run_id: str) -> Iterator[RolloutRecord]:
    """Keep in experiment `serving` what the block did, and how it ended.

    Nothing is raised for what MLflow refuses: whether a model is served does not hang on it.
    """
    rollout, status, began = RolloutRecord(action, model_name, flow_run_id), "KILLED", time.time()
    try:
        yield rollout
        status = "FINISHED"
    except Exception as error:
        status, rollout.outcome = "FAILED", str(error)
        raise
    finally:
        _record(rollout, status, began)


def rollout_link(flow_run_id: str) -> dict[str, str]:
    """Where the run of a roll-out will be once it has ended, with its pages, by the text of the link."""
    links = {}
    with best_effort("the address of a roll-out"):
        address = Settings().addresses.tracked_runs(
            experiment_id(client(), SERVING), f'tags.flow_run_id = "{flow_run_id}"'
        )
        links["Pictures, in the run of this deployment"] = address
    return links


def _links(rollout: RolloutRecord) -> str:
    return links_markdown(page_links(rollout.flow_run_id, None, rollout.model_name, rollout.version))


@task(name="record rollout", cache_policy=NO_CACHE)
def _record(rollout: RolloutRecord, status: str, began: float) -> None:
    from mlflow.entities import Metric

    tags = {
        "action": rollout.action,
        "model": rollout.model_name,
        "version": str(rollout.version or ""),
        "flow_run_id": rollout.flow_run_id,
        "mlflow.note.content": f"{truncate(rollout.outcome, 4000)}\n\n{_links(rollout)}",
        **rollout.tags,
    }
    with best_effort(rollout.name):
        mlflow, now = client(), int(time.time() * 1000)
        run_id = mlflow.create_run(
            experiment_id(mlflow, SERVING),
            start_time=int(began * 1000),
            run_name=rollout.name,
            tags={key: truncate(value, MAX_RUN_TAG) for key, value in tags.items()},
        ).info.run_id
        mlflow.log_batch(run_id, metrics=[Metric(key, value, now, 0) for key, value in rollout.metrics.items()])
        for file, text in rollout.pages.items():
            mlflow.log_text(run_id, text, file)
        mlflow.set_terminated(run_id, status)

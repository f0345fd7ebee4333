"""Addresses of pages in Prefect and MLflow and of the live page, and links in markdown."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from tasks.rendering.markdown import escape_markdown

_TRAINING = "?workflowType=machine_learning"  # otherwise MLflow shows its menus for language models


@dataclass(frozen=True, kw_only=True)
class UiLinks:
    """The first parts of the addresses, as a browser reaches them, without a slash at the end."""

    prefect: str
    mlflow: str
    live: str

    @property
    def front_page(self) -> str:
        """The front page, whose tabs and files are below it."""
        return self.live.removesuffix("/live")

    def flow_run(self, flow_run_id: str) -> str:
        """Return the page of a flow run in Prefect."""
        return f"{self.prefect}/runs/flow-run/{quote(flow_run_id)}"

    def tracked_run(self, experiment_id: str, run_id: str) -> str:
        """Return the page of a run in MLflow."""
        return f"{self.mlflow}/#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}{_TRAINING}"

    def tracked_runs(self, experiment_id: str, condition: str) -> str:
        """Return the page of the runs of an experiment in MLflow that match a filter in its syntax."""
        return f"{self.mlflow}/#/experiments/{quote(experiment_id)}/runs{_TRAINING}&searchFilter={quote(condition)}"

    def model_version(self, model_name: str, version: int) -> str:
        """Return the page of a version in MLflow."""
        return f"{self.mlflow}/#/models/{quote(model_name)}/versions/{version}{_TRAINING}"


def links_markdown(links: Mapping[str, str]) -> str:
    """Return links, given as addresses by their texts, on one line."""
    return " · ".join(f"[{escape_markdown(text)}]({address})" for text, address in links.items())

"""The pages of runs in MLflow, for other pages to link them, and what is said at the top of a run's page."""

from collections.abc import Mapping

from tasks.orchestration.step import step
from tasks.rendering.links import links_markdown
from tasks.settings import Settings
from tasks.tracking.mlflow_client import best_effort, client
from tasks.tracking.payloads import MAX_RUN_TAG, truncate


def page_links(
    flow_run_id: str = "", run_id: str | None = None, model_name: str = "", version: int | None = None
) -> dict[str, str]:
    """The pages that belong to a run, by the texts of their links: those of what is named."""
    places = Settings().addresses
    links: dict[str, str | None] = {
        "Flow run in Prefect": places.flow_run(flow_run_id) if flow_run_id else None,
        "Run in MLflow": run_link(run_id),
        "Version in MLflow": places.model_version(model_name, version) if version else None,
        "Live page": places.live if model_name else None,
    }
    return {text: address for text, address in links.items() if address}


def run_link(run_id: str | None) -> str | None:
    """The page of a run; None where MLflow does not tell, for a link is never worth a run."""
    if run_id is None:
        return None
    experiment = None
    with best_effort("the address of a run"):
        experiment = client().get_run(run_id).info.experiment_id
    return Settings().addresses.tracked_run(experiment, run_id) if experiment else None


@step
def describe_run(run_id: str, links: Mapping[str, str]) -> None:
    """Put links at the top of a run's page; never raises."""
    with best_effort("the links of a run"):
        client().set_tag(run_id, "mlflow.note.content", truncate(links_markdown(links), MAX_RUN_TAG))

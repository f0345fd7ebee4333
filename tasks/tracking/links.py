"""Links to the pages of a run, and the note with them at the top of its page in MLflow."""

from collections.abc import Mapping

from tasks.orchestration.step import step
from tasks.rendering.links import links_markdown
from tasks.settings import Settings
from tasks.tracking.mlflow_client import best_effort
from tasks.tracking.payloads import MAX_RUN_TAG, truncate


def page_links(
    flow_run_id: str = "", run_id: str | None = None, model_name: str = "", version: int | None = None
) -> dict[str, str]:
    """Return the addresses of the pages of a run, by the texts of their links."""
    addresses = Settings().addresses
    links: dict[str, str | None] = {
        "Flow run in Prefect": addresses.flow_run(flow_run_id) if flow_run_id else None,
        "Run in MLflow": _run_link(run_id) if run_id else None,
        "Version in MLflow": addresses.model_version(model_name, version) if version else None,
        "Live page": addresses.live if model_name else None,
    }
    return {text: address for text, address in links.items() if address}


def _run_link(run_id: str) -> str | None:
    experiment = None
    with best_effort("the address of a run") as mlflow:
        experiment = mlflow.get_run(run_id).info.experiment_id
    return Settings().addresses.tracked_run(experiment, run_id) if experiment else None


@step
def describe_run(run_id: str, links: Mapping[str, str]) -> None:
    """Write links to the top of a run's page; never raises."""
    with best_effort("the links of a run") as mlflow:
        mlflow.set_tag(run_id, "mlflow.note.content", truncate(links_markdown(links), MAX_RUN_TAG))

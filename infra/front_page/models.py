"""The tab Models: what is registered, what of it is served, and what can be done with it."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.front_page.pages import number_of, render, rows_of
from tasks.catalogue.models import list_models, read_model, read_version
from tasks.errors import StudioError, safe_repr
from tasks.settings import Settings
from tasks.tracking.mlflow_client import SERVING, quoted, search_runs

PER_PAGE = 30
VERSIONS_PER_PAGE = 10


def show_tab(request: Request) -> Response:
    """Return the tab, which asks nobody; query: `search`, a part of the names."""
    return render(request, "models.html", search=request.query_params.get("search", ""))


def show_list(request: Request) -> Response:
    """Return a page of the models; query: `search` and `cursor`."""
    search = request.query_params.get("search", "")
    found = list_models(cursor=request.query_params.get("cursor", ""), limit=rows_of(request, PER_PAGE), search=search)
    is_first = "cursor" not in request.query_params
    return render(request, "models_list.html", page=found, search=search, is_first=is_first)


def show_model(request: Request) -> Response:
    """Return the page of a model, which asks nobody; query: `name`."""
    return render(request, "models_page.html", name=request.query_params.get("name", ""))


def show_versions(request: Request) -> Response:
    """Return a model and its versions, the newest first; query: `name`, and `below` for versions of lower numbers."""
    model = read_model(request.query_params.get("name", ""))
    below = number_of(request, "below")
    versions = [each for each in model.versions if not below or each.number < below]
    shown = versions[: rows_of(request, VERSIONS_PER_PAGE)]
    return render(
        request,
        "models_versions.html",
        model=model,
        versions=shown,
        below=shown[-1].number if len(versions) > len(shown) else None,
        is_first=not below,
    )


def to_parity(request: Request) -> Response:
    """Lead to the newest run in MLflow that compared a version with its weights; query: `name`, such as `shapes/3`."""
    version = read_version(request.query_params.get("name", ""))
    condition = f"tags.model = {quoted(version.model)} and tags.version = '{version.number}'"
    compared = (
        run for run in search_runs(SERVING, condition, ["attributes.start_time DESC"]) if "parity" in run.data.tags
    )
    run = next(compared, None)
    if run is None:
        raise StudioError(
            f"Expected a deployment in MLflow that compared {safe_repr(version.name)} with its weights, found none. "
            "Deploy it: the comparison is a part of that."
        )
    return RedirectResponse(Settings().addresses.tracked_run(run.info.experiment_id, run.info.run_id), 303)


ROUTES = [
    Route("/registered-models", show_tab),
    Route("/registered-models/list", show_list),
    Route("/registered-models/model", show_model),
    Route("/registered-models/versions", show_versions),
    Route("/registered-models/parity", to_parity),
]

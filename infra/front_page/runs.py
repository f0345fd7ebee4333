"""The tab Runs: what goes on, what has ended lately, and what can be done about it."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from prefect.client.schemas.objects import StateType
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.accounts.starters import reason_not_to_retry
from infra.accounts.visitors import visitor_of
from infra.front_page.pages import render
from infra.front_page.run_lines import EXPERIMENTS, run_lines
from infra.stack_settings import ROOT
from tasks.catalogue.cursors import CatalogueError, ListRequest
from tasks.catalogue.run_pages import list_pages
from tasks.errors import StudioError
from tasks.orchestration import deployed_flows, run_list
from tasks.orchestration.outcome import NOTHING_NEW
from tasks.orchestration.run_history import SKIPPED
from tasks.orchestration.run_list import Place, RunChoice
from tasks.settings import Settings
from tasks.tracking.mlflow_client import search_runs

FLOWS = sorted(path.stem.replace("_", "-") for path in (ROOT / "flows").glob("[a-z]*.py"))
EVERY_FLOW = "every"  # also the runs that a schedule has started in vain
STATES: Mapping[str, Collection[StateType]] = {
    "waiting": (StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED),
    "running": (StateType.RUNNING, StateType.CANCELLING),
    "completed": (StateType.COMPLETED,),
    "failed": (StateType.FAILED, StateType.CRASHED),
    "cancelled": (StateType.CANCELLED,),
}
PER_PAGE = 30
MOST_REPEATED = 100  # ended runs that are sent again every two seconds


def show_tab(request: Request) -> Response:
    """Return the tab, which asks nobody; query: `flow` and `state` choose runs."""
    return render(request, "runs.html", flows=FLOWS, states=STATES, query=_query(request))


def show_newest(request: Request) -> Response:
    """Return what goes on and what has ended lately.

    Query: the choice of the tab, and `until`, the cursor of the last line of the first answer: it stays the last one,
    because older runs follow it on the page. Without it, or if the list has grown too long, the list begins again: the
    answer has the place of the older runs, too.
    """
    choice = _choice(request)
    until = _place(request, "until")
    unfinished = run_list.list_unfinished(choice)
    ended = run_list.list_ended_since(choice, until) if until else []
    if until is None or len(ended) > MOST_REPEATED:
        until, ended = None, run_list.list_ended(choice, limit=PER_PAGE)
    last = until or (ended[-1].place if len(ended) == PER_PAGE else None)
    return render(
        request,
        "runs_newest.html",
        unfinished=run_lines(choice, unfinished, {run.id for run in unfinished}),
        ended=run_lines(choice, ended, None),
        is_cut=len(unfinished) == run_list.MOST,
        until=_cursor(request, last) if last else "",
        is_first=until is None,
        query=_query(request),
    )


def show_older(request: Request) -> Response:
    """Return the runs behind a cursor in the list of those that have ended."""
    choice = _choice(request)
    ended = run_list.list_ended(choice, _place(request, "cursor"), PER_PAGE)
    last = ended[-1].place if len(ended) == PER_PAGE else None
    return render(
        request,
        "runs_older.html",
        ended=run_lines(choice, ended, None),
        cursor=_cursor(request, last) if last else "",
        query=_query(request),
    )


def cancel(request: Request) -> Response:
    """Cancel a run."""
    return _changed(request, deployed_flows.cancel(request.path_params["run"]))


def retry(request: Request) -> Response:
    """Give a run that has ended back to a worker; visitors who are no admins retry those that they have started."""
    run = request.path_params["run"]
    visitor = visitor_of(request, request.app.state.front_door_secret)
    if visitor and (reason := reason_not_to_retry(deployed_flows.require(run).tags, visitor)):
        raise HTTPException(403, reason)
    return _changed(request, deployed_flows.retry(run))


def to_mlflow(request: Request) -> Response:
    """Lead to the newest run in MLflow of a flow run; query: `flow`."""
    run, flow = request.path_params["run"], request.query_params.get("flow", "")
    experiment = EXPERIMENTS.get(flow)
    order = ["attributes.start_time DESC"]
    tracked = next(search_runs(experiment, f"tags.flow_run_id = '{run}'", order), None) if experiment else None
    if tracked is None:
        raise StudioError(
            f"Expected a run in MLflow of flow run {run}, found none: it has recorded nothing there, or a later "
            "check of the same archive has taken its place. Look at the flow run in Prefect."
        )
    return RedirectResponse(Settings().addresses.tracked_run(tracked.info.experiment_id, tracked.info.run_id), 303)


def to_pages(request: Request) -> Response:
    """Lead to the page that a run has left, or show which there are."""
    run = str(request.path_params["run"])
    pages = list_pages(run)
    if not pages:
        raise StudioError(
            f"Expected a page of flow run {run}, found none: it ended before it wrote one, or there was nothing to "
            "show. Look at the flow run in Prefect."
        )
    if len(pages) == 1:
        return RedirectResponse(next(iter(pages.values())), 303)
    return render(request, "runs_pages.html", run=run, pages=pages)


def _changed(request: Request, state: str) -> Response:
    return render(request, "runs_changed.html", events=["studio:changed"], state=state)


def _query(request: Request) -> dict[str, str]:
    """The choice, as it is named in addresses."""
    return {name: request.query_params.get(name, "") for name in ("flow", "state")}


def _choice(request: Request) -> RunChoice:
    query = _query(request)
    flow, state = query["flow"], query["state"]
    if state and state not in STATES:
        raise CatalogueError(f"Expected a state of {', '.join(STATES)}, found {state[:40]!r}. Choose one.")
    return RunChoice(
        flows=[flow] if flow not in {"", EVERY_FLOW} else (),
        types=STATES.get(state, ()),
        hidden=() if flow else (NOTHING_NEW, SKIPPED),
    )


def _request(request: Request, cursor: str) -> ListRequest:
    return ListRequest(listing="runs", filters=_query(request), cursor=cursor, limit=PER_PAGE)


def _cursor(request: Request, place: Place) -> str:
    return _request(request, "").cursor_behind(place.time.isoformat(), str(place.run))


def _place(request: Request, name: str) -> Place | None:
    """The place in the list of ended runs that a cursor of the query stands for; None at its beginning."""
    position = _request(request, request.query_params.get(name, "")).position
    if not position:
        return None
    try:
        time, run = position
        return Place(datetime.fromisoformat(time), UUID(run))
    except ValueError as error:
        raise CatalogueError("Expected a cursor of this list, found another. Reload the page.") from error


ROUTES = [
    Route("/runs", show_tab),
    Route("/runs/newest", show_newest),
    Route("/runs/older", show_older),
    Route("/runs/{run:uuid}/cancel", cancel, methods=["POST"]),
    Route("/runs/{run:uuid}/retry", retry, methods=["POST"]),
    Route("/runs/{run:uuid}/mlflow", to_mlflow),
    Route("/runs/{run:uuid}/pages", to_pages),
]

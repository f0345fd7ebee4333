"""The tab Logs: lines of all services, the newest first, by what they are about."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.accounts.roles import UserRole
from infra.front_page.access import person_of
from infra.front_page.pages import render
from infra.front_page.searches import Searches
from infra.logs.files import list_services
from infra.logs.lines import LEVELS, Line, show_controls
from infra.logs.query import Query, parse_time
from infra.logs.reader import Check, Place, SearchEndedError, Seen, read_backwards
from infra.logs.runs import add_children, add_runs_about, read_run_log
from infra.stack_settings import StackSettings
from tasks.catalogue.cursors import CatalogueError, ListRequest
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.log_lines import FLOW, is_run_id

PER_PAGE = 100
FILTERS = ("text", "run", "model", "archive", "request", "service", "level", "since", "until", "children")
_SHOWN = (
    "flow_run_id",
    "flow",
    "model",
    "archives",
    "request_id",
    "user",
    "task_run_name",
)  # fields, if a line has them
_PLACE = re.compile(r"([a-z0-9-]*):(\d{1,20}):(\d{1,20})")
_OF_PREFECT = ""  # the name of the source of its lines in a cursor


def show_tab(request: Request) -> Response:
    """Return the tab, which reads nothing; query: `FILTERS` choose lines."""
    services = [*list_services(_folder()), FLOW]
    return render(request, "logs.html", services=sorted(services), levels=LEVELS, query=_filters(request))


async def show_lines(request: Request) -> Response:
    """Return a page of lines; query: the choice of the tab, and `cursor`, behind which it begins.

    Raises:
        QueryError: A time or a level that cannot be.
        CatalogueError: A cursor of another list, or no id of a run.
        HTTPException: Other searches have taken too long.
    """
    searches: Searches = request.app.state.searches
    person = person_of(request, request.app.state.front_door_secret)
    is_admin = person is not None and person.role >= UserRole.ADMIN
    return await searches.run(request, person.name if person else "", partial(_lines, request, is_admin))


def _lines(request: Request, is_admin: bool, check: Check) -> Response:
    filters = _filters(request)
    asked = ListRequest(listing="logs", filters=filters, cursor=request.query_params.get("cursor", ""), limit=PER_PAGE)
    places, anchor, passed = _read_cursor(asked)
    query, notice = _query(filters)
    query = replace(query, audit=is_admin)
    seen, lines = Seen(), list[Line]()
    is_last, ended = True, False
    try:
        of_runs: list[Line] = []
        if not notice:
            try:
                said = read_run_log(query, newest_first=True, until=anchor, check=check)
                of_runs = list(islice(said, passed, passed + PER_PAGE))
            except StudioError as error:
                notice = str(error)
        if asked.cursor:  # what was written since the first page would stand below it
            query = replace(query, until=min(anchor, query.until or anchor))
        for service, line in read_backwards(_folder(), query, places, of_runs, check):
            if len(lines) == PER_PAGE:
                is_last = False
                break
            if service == _OF_PREFECT:
                passed += 1
            else:
                places[service] = Place(line.file, line.start)
            if not seen.has(line):
                lines.append(line)
    except SearchEndedError:
        ended = True
    where = [f"{service}:{place.file}:{place.start}" for service, place in places.items()]
    return render(
        request,
        "logs_lines.html",
        lines=lines,
        details=_details,
        shown=show_controls,
        notice=notice,
        ended=ended,
        cursor="" if is_last else asked.cursor_behind(anchor.isoformat(), str(passed), *where),
        is_first=not asked.cursor,
        query=filters,
    )


def _folder() -> Path:
    return StackSettings.load().state_dir / "logs"


def _filters(request: Request) -> dict[str, str]:
    """The choice, as it is named in addresses."""
    return {name: request.query_params.get(name, "").strip() for name in FILTERS}


def _query(filters: dict[str, str]) -> tuple[Query, str]:
    """The lines that are asked for, and what is missing as Prefect does not answer."""
    run = filters["run"]
    if run and not is_run_id(run):
        fix = "The tab Runs links the log of each."
        raise CatalogueError(expected_found_fix("the id of a flow run", safe_repr(run), fix))
    query = Query(
        runs=[run] if run else (),
        model=filters["model"],
        archive=filters["archive"],
        request=filters["request"],
        services=[filters["service"]] if filters["service"] else (),
        level=filters["level"] or "info",
        since=parse_time(filters["since"]) if filters["since"] else None,
        until=parse_time(filters["until"]) if filters["until"] else None,
        text=filters["text"],
    )
    try:
        return add_runs_about(add_children(query) if filters["children"] and run else query), ""
    except StudioError as error:
        if not error.transient:
            raise
        return query, str(error)


def _read_cursor(asked: ListRequest) -> tuple[dict[str, Place], datetime, int]:
    """Up to where each service was shown; when the list was begun, and how many of Prefect's lines were shown.

    Raises:
        CatalogueError: The cursor is none of this list.
    """
    if not asked.position:
        return {}, datetime.now(UTC), 0
    try:
        anchor, passed, *where = asked.position
        found = [_PLACE.fullmatch(place) for place in where]
        places = {each[1]: Place(int(each[2]), int(each[3])) for each in found if each}
        return places, datetime.fromisoformat(anchor), int(passed)
    except ValueError as error:
        raise CatalogueError("Expected a cursor of this list, found another. Reload the page.") from error


def _details(line: Line) -> list[tuple[str, str]]:
    """What a line says beside its message, by name."""
    known = [(name, line.fields[name]) for name in _SHOWN if line.fields.get(name)]
    return [
        (name, show_controls(", ".join(map(str, value)) if isinstance(value, list) else str(value)))
        for name, value in known
    ]


ROUTES = [
    Route("/logs", show_tab),
    Route("/logs/lines", show_lines),
]

"""The audit log, for admins."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.accounts.audit import AuditChoice, list_entries
from infra.accounts.people import PART
from infra.front_page.askers import people_of, require_admin
from infra.front_page.pages import render
from tasks.catalogue.cursors import CatalogueError, ListRequest

PER_PAGE = 100
PARTS = (PART, "studio", "prefect", "mlflow")
_FILTERS = ("user", "part", "since", "outcome")


def show_page(request: Request) -> Response:
    """Return the page, without entries; query: the filters of the list."""
    require_admin(request)
    return render(request, "audit.html", parts=PARTS, filters=_filters(request))


def show_list(request: Request) -> Response:
    """Return a page of the entries, the newest first.

    Query: `user`, `part`, `since` (a day of UTC, such as 2026-11-30), `outcome` (refused or allowed), and `cursor`.

    Raises:
        CatalogueError: A filter or the cursor cannot be.
    """
    require_admin(request)
    filters = _filters(request)
    asked = ListRequest(listing="audit", filters=filters, cursor=request.query_params.get("cursor", ""), limit=PER_PAGE)
    choice = AuditChoice(
        name=filters["user"] or None,
        part=filters["part"] or None,
        since=_day(filters["since"]),
        allowed={"refused": False, "allowed": True}.get(filters["outcome"]),
    )
    entries = list_entries(people_of(request).database, choice, before=_number(asked.position), limit=PER_PAGE)
    cursor = asked.cursor_behind(str(entries[-1].id)) if len(entries) == PER_PAGE else ""
    return render(
        request, "audit_list.html", entries=entries, filters=filters, cursor=cursor, is_first=not asked.cursor
    )


def _filters(request: Request) -> dict[str, str]:
    return {name: request.query_params.get(name, "").strip() for name in _FILTERS}


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError as error:
        raise CatalogueError(f"Expected a day such as 2026-11-30, found {text[:40]!r}. Choose one.") from error


def _number(position: tuple[str, ...]) -> int | None:
    if not position:
        return None
    if len(position) == 1 and position[0].isdecimal() and len(position[0]) < 19:
        return int(position[0])
    raise CatalogueError("Expected a cursor of this list, found another. Reload the page.")


ROUTES = [
    Route("/audit", show_page),
    Route("/audit/list", show_list),
]

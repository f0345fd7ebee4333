"""How the front page answers: templates of `templates/`, whole pages for a browser and parts of them for htmx."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.accounts.names import OWNER
from infra.accounts.permissions import Need
from infra.accounts.roles import UserRole
from infra.front_page.access import page_token, person_of
from tasks.catalogue.cursors import MAX_LIMIT
from tasks.errors import StudioError
from tasks.rendering.sizes import format_bytes
from tasks.settings import Settings

FOLDER = Path(__file__).parent
LONGEST_QUERY = 8000  # of an address that any browser and server takes
_LONGEST_NUMBER = 9  # digits
_STEPS = ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"))  # below, seconds of one, its name


def render(
    request: Request, template: str, /, *, status: int = 200, events: Sequence[str] = (), **values: object
) -> Response:
    """Return a page, or a part of one, made of a template of `templates/`.

    Args:
        request: What is answered.
        template: The name of the file.
        status: Of HTTP.
        events: What the page is told, such as `studio:started`: its lists listen.
        values: What the template shows; all of it is escaped.
    """
    state, path = request.app.state, request.scope["path"]
    person = person_of(request, state.front_door_secret)
    known = {
        "tab": path.split("/")[1],
        "token": page_token(request, state.password, state.front_door_secret),
        "links": Settings().addresses,
        # Strangers see the live page alone, whose buttons are for everybody.
        "may_act": person is None or Need(UserRole.OPERATOR, is_of_people=True).is_met_by(person.role),
        "person": person if state.people is not None else None,
        "is_admin": person is not None and person.role >= UserRole.ADMIN,
        "owner": OWNER,
    }
    text = _ENVIRONMENT.get_template(template).render(**known, **values)
    headers = {"Content-Security-Policy": state.content_policy, "Cache-Control": "no-store"}
    headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    if events:
        headers["HX-Trigger"] = json.dumps(dict.fromkeys(events, True))
    # A name may be no valid Unicode.
    return HTMLResponse(text.encode("utf-8", "replace"), status, headers)


def content_policy(*stores: str) -> str:
    """Return the Content-Security-Policy of our pages: all is ours, but uploads go to the object store."""
    connected = " ".join(("'self'", *stores))
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        f"connect-src {connected}; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


async def show_studio_error(request: Request, error: Exception) -> Response:
    """Answer with the message of an error that a person can act on."""
    assert isinstance(error, StudioError)  # noqa: S101 - registered for this kind
    return _error(request, str(error), 502 if error.transient else 400)


async def show_http_error(request: Request, error: Exception) -> Response:
    """Answer with the words of an error of HTTP, such as 404."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this kind
    return _error(request, error.detail, error.status_code)


def _error(request: Request, message: str, status: int) -> Response:
    """A panel, with a button that asks for the same again if it is a part of a page."""
    address = f"{request.scope['path']}?{request.url.query}" if request.method == "GET" else ""
    return render(
        request,
        "error.html",
        status=status,
        message=message,
        is_part="hx-request" in request.headers,
        is_dialog=request.headers.get("hx-target") == "dialog",
        address=address,
    )


def rows_of(request: Request, least: int) -> int:
    """Return how many rows a list is asked for: `rows` of the query, if it is more than `least`."""
    return min(max(number_of(request, "rows"), least), MAX_LIMIT)


def number_of(request: Request, name: str) -> int:
    """Return a number of the query; 0 if it has none of this name, or none that can be meant."""
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < _LONGEST_NUMBER else 0


def age_of(moment: datetime) -> str:
    """Return how long ago a moment was: `5 min ago`, after days its date."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for limit, one, name in _STEPS:
        if seconds < limit:
            return f"{seconds / one:.0f} {name} ago"
    return f"{moment:%Y-%m-%d}"


def path_of(name: str) -> str:
    """Return a name as a part of a path; a slash stays one."""
    return quote(name, safe="/", errors="replace")


def query_of(*tables: dict[str, object]) -> str:
    """Return the parts of a query; None is left out, and a list names its parameter several times."""
    chosen = {name: value for table in tables for name, value in table.items() if value is not None}
    return urlencode(chosen, doseq=True, errors="replace")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": age_of,
        "size": format_bytes,
        "path": path_of,
        "query": query_of,
        "thousands": "{:,}".format,
    }
    return environment


_ENVIRONMENT = _environment()

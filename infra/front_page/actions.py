"""Whatever the front page does is a flow run: a dialog shows its parameters and the same as a command, then starts it.

`GET /start/<flow>?model_name=shapes` gives the dialog, `POST /start/<flow>/parameters` what the form says so far, and
`POST /start/<flow>` starts the run.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.front_page.bodies import read_body
from infra.front_page.commands import FLOWS, curl_line, studio_line
from infra.front_page.consequences import CONSEQUENCES
from infra.front_page.forms import list_groups, parse_form
from infra.front_page.pages import render
from tasks.errors import StudioError
from tasks.orchestration import deployed_flows

STARTED = "studio:started"  # the event that the page gets
_MAX_BYTES = 1 << 20
Filled = Mapping[str, Sequence[str]]


def show_dialog(request: Request) -> Response:
    """Return the form of a flow, filled with what the query says."""
    flow = _flow(request)
    deployed = deployed_flows.describe(flow)
    given = parse_qs(request.url.query, keep_blank_values=True)
    parameters = parse_form(deployed.schema, given)
    consequences = CONSEQUENCES[flow](parameters) if flow in CONSEQUENCES else ()
    return render(
        request,
        "dialog.html",
        flow=flow,
        description=deployed.description,
        groups=list_groups(deployed.schema, given),
        consequences=consequences,
        **_commands(flow, deployed.id, parameters),
    )


async def show_parameters(request: Request) -> Response:
    """Return the parameters that the form says, as JSON and as commands."""
    filled = await _filled(request)
    return await run_in_threadpool(_show_parameters, request, filled)


def _show_parameters(request: Request, filled: Filled) -> Response:
    flow = _flow(request)
    deployed = deployed_flows.describe(flow)
    try:
        parameters = parse_form(deployed.schema, filled)
    except StudioError as error:  # half a word is no reason for an alarm, but it is no command either
        return render(request, "parameters.html", parameters=str(error), studio="", curl="")
    return render(request, "parameters.html", **_commands(flow, deployed.id, parameters))


async def start(request: Request) -> Response:
    """Start the run, and return where to watch it."""
    filled = await _filled(request)
    return await run_in_threadpool(_start, request, filled)


def _start(request: Request, filled: Filled) -> Response:
    flow = _flow(request)
    try:
        parameters = parse_form(deployed_flows.describe(flow).schema, filled)
        run = deployed_flows.start(flow, parameters)
    except StudioError as error:
        return render(request, "refused.html", status=502 if error.transient else 400, message=str(error))
    return render(request, "started.html", events=(STARTED,), flow=flow, run=str(run))


def _commands(flow: str, deployment: UUID, parameters: dict[str, object]) -> dict[str, Any]:
    return {
        "parameters": json.dumps(parameters, indent=2, ensure_ascii=False),
        "studio": studio_line(flow, parameters),
        "curl": curl_line(deployment, parameters),
    }


async def _filled(request: Request) -> Filled:
    """The fields of the form that was sent."""
    body = await read_body(request, _MAX_BYTES)
    if body is None:
        raise HTTPException(413, f"Expected a form of at most {_MAX_BYTES} bytes, found a longer one.")
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


def _flow(request: Request) -> str:
    flow = str(request.path_params["flow"])
    if flow not in FLOWS:
        raise HTTPException(404, f"Expected one of the flows {', '.join(FLOWS)}, found another.")
    return flow


ROUTES = [
    Route("/start/{flow}", show_dialog),
    Route("/start/{flow}", start, methods=["POST"]),
    Route("/start/{flow}/parameters", show_parameters, methods=["POST"]),
]

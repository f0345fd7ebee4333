"""Whatever the front page does is a flow run: a dialog shows its parameters and the same as a command, then starts it.

`GET /start/<flow>?model_name=shapes` gives the dialog, `POST /start/<flow>/parameters` what the form says so far, and
`POST /start/<flow>` starts the run.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs
from uuid import NAMESPACE_URL, uuid4, uuid5

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.front_page.bodies import read_form
from infra.front_page.commands import COMMANDS, curl_line, studio_line
from infra.front_page.consequences import CONSEQUENCES
from infra.front_page.forms import list_groups, parse_form
from infra.front_page.pages import render
from tasks.errors import StudioError
from tasks.log_lines import add_to_request, subjects_of
from tasks.orchestration import deployed_flows
from tasks.orchestration.deployed_flows import DeployedFlow
from tasks.orchestration.prefect_client import CallRefusedError
from tasks.orchestration.starters import starter_tags

STARTED = "studio:started"  # the event that the page gets
_MAX_BYTES = 1 << 20
Filled = Mapping[str, Sequence[str]]


def show_dialog(request: Request) -> Response:
    """Return the form of a flow, filled with what the query says."""
    flow = _flow(request)
    deployed = deployed_flows.describe(flow)
    groups = list_groups(deployed.schema, parse_qs(request.url.query, keep_blank_values=True))
    filled = {field.path: [field.text] for group in groups for field in group.fields}
    return render(
        request,
        "dialog.html",
        flow=flow,
        description=deployed.description,
        groups=groups,
        key=uuid4(),
        **_described(flow, deployed, filled),
    )


async def show_parameters(request: Request) -> Response:
    """Return what the form says, as JSON and as commands, and what that would change."""
    filled = await read_form(request, _MAX_BYTES)
    return await run_in_threadpool(_show_parameters, request, filled)


def _show_parameters(request: Request, filled: Filled) -> Response:
    flow = _flow(request)
    return render(request, "parameters.html", **_described(flow, deployed_flows.describe(flow), filled))


async def start(request: Request) -> Response:
    """Start the run, and return where to watch it; a form that is sent twice as it is starts one run."""
    filled = await read_form(request, _MAX_BYTES)
    return await run_in_threadpool(_start, request, filled)


def _start(request: Request, filled: Filled) -> Response:
    flow = _flow(request)
    try:
        parameters = parse_form(deployed_flows.describe(flow).schema, filled)
        key = request.query_params.get("key")
        # Filled in otherwise, it is another run; and so it is if somebody else sends it.
        asked = " ".join([*starter_tags(), str(key), json.dumps(parameters, sort_keys=True)])
        run = deployed_flows.start(flow, parameters, idempotency_key=str(uuid5(NAMESPACE_URL, asked)) if key else None)
        add_to_request(flow_run_id=str(run), flow=flow, **subjects_of(parameters))
    except StudioError as error:
        # Everybody sees that the run was not started: the field and the reason are enough.
        message = error.reason if isinstance(error, CallRefusedError) else str(error)
        return render(request, "refused.html", status=502 if error.transient else 400, message=message)
    answer = render(request, "started.html", events=(STARTED,), flow=flow, run=str(run))
    answer.headers["HX-Retarget"] = "#dialog"
    return answer


def _described(flow: str, deployed: DeployedFlow, filled: Filled) -> dict[str, Any]:
    """The run that the form describes, for the templates; half a word in it is no reason for an alarm."""
    try:
        parameters = parse_form(deployed.schema, filled)
    except StudioError as error:
        return {"parameters": str(error), "studio": "", "curl": "", "consequences": ()}
    return {
        "parameters": json.dumps(parameters, indent=2, ensure_ascii=False),
        "studio": studio_line(flow, parameters),
        "curl": curl_line(deployed.id, parameters),
        "consequences": _consequences(flow, parameters),
    }


def _consequences(flow: str, parameters: dict[str, Any]) -> tuple[str, ...]:
    try:
        return CONSEQUENCES[flow](parameters) if flow in CONSEQUENCES else ()
    except StudioError as error:
        return (f"What this would change is not known now: {error}",)


def _flow(request: Request) -> str:
    flow = str(request.path_params["flow"])
    if flow not in COMMANDS:
        raise HTTPException(404, f"Expected one of the flows {', '.join(COMMANDS)}, found another.")
    return flow


ROUTES = [
    Route("/start/{flow}", show_dialog),
    Route("/start/{flow}", start, methods=["POST"]),
    Route("/start/{flow}/parameters", show_parameters, methods=["POST"]),
]

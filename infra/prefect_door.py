"""Prefect's server behind our door: `python -m infra.prefect_door`, as `prefect server start` runs it otherwise."""

import os
from functools import partial
from typing import Any

from prefect.server.api.server import create_app, custom_internal_exception_handler
from prefect.server.events import actions
from prefect.settings import get_current_settings
from prefect.utilities.schema_tools import validation
from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from infra.accounts.permissions import Part
from infra.door import Door, refusal_of
from infra.event_times import use_the_servers_clock
from infra.front_page_questions import check_address
from infra.notification_delivery import beside_others
from infra.patrol import EVERY_S, patrol
from infra.prefect_visitors import UnderPrefix, Visitors
from infra.refusals import describe_schema_errors
from infra.request_log import RequestLog
from infra.rotation.passwords import RotatedPassword
from infra.stack_settings import HOST, StackSettings
from infra.state_changes import act_on_present_states
from infra.storable_text import UNPROCESSABLE, StorableText, in_the_address
from infra.visitor_door import VisitorDoor
from infra.web_server import serve
from tasks.orchestration.repetition import run_periodically

LOGS = "/api/logs/"  # sent in batches by logging handlers, which do not read the answer
_DATA = "22"  # the codes of PostgreSQL for a wrong value begin with it


async def answer_to_database(request: Request, error: Exception) -> Response:
    """Answer 422 to a value that the database refuses; Prefect answers 503, and its clients try again."""
    code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if code.startswith(_DATA):
        message = f"expected values that the database can keep, found one that it cannot ({code})"
        return refusal_of(message, UNPROCESSABLE)
    return await custom_internal_exception_handler(request, error)


async def answer_to_depth(_: Request, __: Exception) -> Response:
    """Answer 422 to a value in which more is nested than Python reads, such as a template of brackets."""
    return refusal_of("expected a value with less nested in it, found one too deep to read", UNPROCESSABLE)


def application() -> ASGIApp:
    """Return Prefect's application behind our door, and behind that of visitors if there is a front door."""
    describe_schema_errors(validation._VALIDATOR.VALIDATORS)  # noqa: SLF001 - Prefect has no other way in
    use_the_servers_clock()
    act_on_present_states()
    actions.consumer = beside_others(actions.consumer)  # type: ignore[assignment]  # of a private class
    app: Any = create_app(final=True)
    app.api_app.add_exception_handler(DBAPIError, answer_to_database)
    app.api_app.add_exception_handler(RecursionError, answer_to_depth)
    settings = StackSettings.load()
    credential = os.environ.get("PREFECT_SERVER_API_AUTH_STRING", "")
    storable = StorableText(app, mended=(LOGS,), status=_status_of_refusal)
    known = RotatedPassword(storable, settings=settings, name="prefect", password=credential.partition(":")[2])
    secret = os.environ.get("STUDIO_FRONT_DOOR_SECRET")
    if not secret:
        return Door(known, in_the_address)
    visitors = Visitors(known, credential=credential, check_address=check_address(settings), secret=secret)
    behind = UnderPrefix(Door(visitors, in_the_address))
    return VisitorDoor(behind, part=Part.PREFECT, credential=credential, secret=secret, unnamed_sockets=True)


def _status_of_refusal(path: str) -> int:
    """409 for a bad parameter of a run, as Prefect answers to every other one."""
    return 409 if path.endswith("/create_flow_run") else UNPROCESSABLE


def main() -> None:
    """Serve API, UI and background services until the process is ended."""
    server = get_current_settings().server
    settings = StackSettings.load()
    port = settings.prefect_port
    password = server.api.auth_string.get_secret_value() if server.api.auth_string else None
    go_round = partial(patrol, f"http://{HOST}:{port}/api", password)
    with run_periodically(go_round, EVERY_S, name="patrol", last_s=0):
        serve(
            RequestLog(application(), only_unusual=True),  # its clients ask it several times a second
            behind_front_door="STUDIO_FRONT_DOOR_SECRET" in os.environ,
            host=settings.bind,
            port=port,
            timeout_keep_alive=server.api.keepalive_timeout,
            ws_ping_interval=server.api.websocket_ping_interval,
            ws_ping_timeout=server.api.websocket_ping_timeout,
            log_config=None,  # Prefect has configured it
            log_level=server.logging_level.lower(),
        )


if __name__ == "__main__":
    main()

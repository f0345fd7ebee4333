"""Prefect's server behind our door: `python -m infra.prefect_door`, as `prefect server start` runs it otherwise."""

from typing import Any

import uvicorn
from prefect.server.api.server import create_app, custom_internal_exception_handler
from prefect.settings import get_current_settings
from prefect.utilities.schema_tools import validation
from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import Response

from infra.door import Door, refusal_of
from infra.refusals import describe_schema_errors
from infra.stack_settings import HOST, StackSettings
from infra.storable_text import UNPROCESSABLE, StorableText, in_the_address

LOGS = "/api/logs/"  # sent by handlers of logging, in batches, after which nobody asks what came of them
_DATA = "22"  # how the codes of PostgreSQL begin that say that a value is wrong


async def answer_to_database(request: Request, error: Exception) -> Response:
    """Refuse a value that the database refuses, as 422; Prefect says 503, after which its clients ask again."""
    code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if code.startswith(_DATA):
        return refusal_of(
            f"expected values that the database can keep, found one that it cannot ({code})", UNPROCESSABLE
        )
    return await custom_internal_exception_handler(request, error)


def application() -> Door:
    """Prefect's application behind our door."""
    describe_schema_errors(validation._VALIDATOR.VALIDATORS)  # noqa: SLF001  # a dictionary of Prefect's own, asked at each check
    app: Any = create_app(final=True)
    app.api_app.add_exception_handler(DBAPIError, answer_to_database)
    return Door(StorableText(app, mended=(LOGS,), status=status_of_refusal), in_the_address)


def status_of_refusal(path: str) -> int:
    """What a refusal is answered with: a bad parameter of a run with 409, as Prefect does for every other one."""
    return 409 if path.endswith("/create_flow_run") else UNPROCESSABLE


def main() -> None:
    """Serve API, UI and background services until the process is ended."""
    server = get_current_settings().server
    uvicorn.run(
        application(),
        host=HOST,
        port=StackSettings.load().prefect_port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main()

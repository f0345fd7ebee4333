"""Prefect's server behind our door: `python -m infra.prefect_door`, as `prefect server start` runs it otherwise."""

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from infra.door import Door
from infra.settings import HOST, StackSettings


def main() -> None:
    """Serve API, UI and background services until the process is ended."""
    server = get_current_settings().server
    uvicorn.run(
        Door(create_app(final=True)),
        host=HOST,
        port=StackSettings.load().prefect_port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main()

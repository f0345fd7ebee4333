"""The web server of our services: uvicorn, which behind the front door ends without a lost request."""

import asyncio
import socket
import sys
from typing import Any

import uvicorn
from starlette.types import ASGIApp

LINGER_S = 1.0  # within which Caddy uses each connection that it has kept, under load
GRACE_S = 10  # for requests that are under way; the supervisor waits for twice as long
_CANNOT_START = 3


class LingeringServer(uvicorn.Server):
    """A server that closes a connection with an answer.

    uvicorn closes those without a request at once. A request that the proxy has just sent through one of them would be
    lost, and the proxy must not repeat it if it acts.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, and answer on those that are left that they close; then end as uvicorn does."""
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        if self.server_state.connections:
            await asyncio.sleep(LINGER_S)
        await super().shutdown(sockets)


def serve(app: ASGIApp, *, behind_front_door: bool, **options: Any) -> None:  # noqa: ANN401 - those of uvicorn
    """Serve until the process is ended, with options of uvicorn."""
    if behind_front_door:
        options["timeout_graceful_shutdown"] = GRACE_S
    config = uvicorn.Config(app, **options)
    server = LingeringServer(config) if behind_front_door else uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(_CANNOT_START)

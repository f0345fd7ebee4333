"""A front door with real services behind it: Caddy, PostgreSQL, SeaweedFS, Prefect and MLflow.

The front page behind it is the real one, with accounts and without Triton, or a stand-in: that answers `/auth/check`
from a list of four people, and shows on any other path what it was sent.
"""

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from infra import postgres, stack, stores, supervisord
from infra.accounts.bootstrap import ensure_accounts
from infra.accounts.cookies import SESSION
from infra.accounts.permissions import SOCKET, locate, need_of
from infra.accounts.roles import UserRole
from infra.accounts.visitors import CHECK, SECRET_HEADER, SOCKET_HEADER, came_through_the_front_door
from infra.front_door import prepare_front_door, require_front_door, root_certificate
from infra.services import http_check, prepare_object_store, services
from infra.stack_settings import VARIABLES, StackSettings
from infra.temporary import fresh_folder, make_temporary_folder, remove_temporary
from tests import stack_environment

NAME = "studio.test"
ROLES = {"vera": UserRole.VIEWER, "otto": UserRole.OPERATOR, "olga": UserRole.OPERATOR, "ada": UserRole.ADMIN}
PARTS = ("postgres", "object-store", "prefect", "mlflow", "front-door")


def key_of(name: str) -> str:
    """The API token of a person."""
    return f"token-of-{name}"


def auth_of(name: str) -> tuple[str, str]:
    return name, key_of(name)


@dataclass
class Public:
    """The running services, and how to ask them from outside."""

    settings: StackSettings
    asked: list[dict[str, str]] = field(default_factory=list)  # the headers of each /auth/check

    @property
    def url(self) -> str:
        return self.settings.public_url

    @property
    def root(self) -> str:
        return str(root_certificate(self.settings))

    def client(self, name: str | None = None, **headers: str) -> httpx.Client:
        """A program outside, with the token of a person or without one; the host name leads to this machine."""
        auth = auth_of(name) if name else None
        return httpx.Client(
            transport=_ByName(self), auth=auth, headers=headers, base_url=self.url, timeout=30, trust_env=False
        )


class _ByName(httpx.BaseTransport):
    """No name server knows the host: the connection goes to this machine, by that name."""

    def __init__(self, public: Public) -> None:
        self._inner = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=public.root))
        self._name = public.settings.public_host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = self._name
        request.url = request.url.copy_with(host="127.0.0.1")
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def person_of(request: Request) -> str | None:
    """Whose key or session a request has."""
    session = request.cookies.get(SESSION, "")
    if session.startswith("session-of-"):
        return session.removeprefix("session-of-")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            name, _, key = base64.b64decode(given).decode().partition(":")
            return name if key == key_of(name) else None
    return given.removeprefix("token-of-") if scheme.lower() == "bearer" and given.startswith("token-of-") else None


def stand_in(settings: StackSettings, asked: list[dict[str, str]]) -> Starlette:
    """The front page as far as the front door needs it."""

    async def check(request: Request) -> Response:
        if not came_through_the_front_door(request, settings.secrets["front_door"]):
            return JSONResponse({"error": "not by the front door"}, 404)
        asked.append(dict(request.headers))
        name = person_of(request)
        if name not in ROLES:
            if request.headers.get("sec-fetch-mode") == "navigate":
                return RedirectResponse("/sign-in", 302)
            return JSONResponse({"error": "expected a token, found none"}, 401, {"WWW-Authenticate": "Basic"})
        method, path = request.headers["x-forwarded-method"], urlsplit(request.headers["x-forwarded-uri"]).path
        is_socket = SOCKET_HEADER in request.headers
        foreign = request.headers.get("origin", settings.public_url) != settings.public_url
        if SESSION in request.cookies and foreign and (method not in {"GET", "HEAD"} or is_socket):
            return JSONResponse({"error": "foreign origin"}, 403)
        part, inner = locate(path)
        if not need_of(part, SOCKET if is_socket else method, inner).is_met_by(ROLES[name]):
            return JSONResponse({"error": "role"}, 403)
        return Response(None, 204, {"X-Studio-User": name, "X-Studio-Role": str(ROLES[name])})

    async def show(request: Request) -> Response:
        shown = {name: value for name, value in request.headers.items() if name != SECRET_HEADER.lower()}
        return JSONResponse({"headers": shown, "secret": request.headers.getlist(SECRET_HEADER) != []})

    routes = [Route(CHECK, check), Route("/live", show), Route("/{path:path}", show, methods=["GET", "POST"])]
    return Starlette(routes=routes)


def open_socket(public: Public, address: str, headers: dict[str, str] | None = None) -> ClientConnection:
    """A socket from outside; the name of the host is that of this machine."""
    port = public.settings.public_port
    return connect(
        address,
        sock=socket.create_connection(("127.0.0.1", port)),
        ssl=ssl.create_default_context(cafile=public.root),
        server_hostname=NAME,
        proxy=None,
        subprotocols=[Subprotocol("prefect")],
        additional_headers=headers,
    )


@contextlib.contextmanager
def run_public(*, with_accounts: bool = False, name: str = NAME) -> Iterator[Public]:
    """The services of a stack of their own, but for workers and Triton; `with_accounts`: with the real front page.

    `name` is the host name of the front door; `localhost` is one that other processes find, too.
    """
    with tempfile.TemporaryDirectory(prefix="studio-public-") as folder, pytest.MonkeyPatch.context() as patch:
        first = stack_environment.free_block(len(stack_environment.PORTS) + 2)
        for number, port in enumerate((*stack_environment.PORTS, "PUBLIC", "PUBLIC_S3")):
            patch.setenv(f"STUDIO_{port}_PORT", str(first + number))
        patch.setenv("STUDIO_STATE_DIR", str(Path(folder) / "state"))
        patch.setenv("STUDIO_PUBLIC", "true")
        patch.setenv("STUDIO_PUBLIC_HOST", name)
        for variable in [each for names in VARIABLES.values() for each in names]:
            patch.delenv(variable, raising=False)
        settings = StackSettings.load()
        require_front_door(settings)
        public = Public(settings)
        page = stand_in(settings, public.asked)
        with contextlib.nullcontext() if with_accounts else _served(page, settings.live_port):
            try:
                _start(settings, (*PARTS, "studio") if with_accounts else PARTS)
                yield public
            finally:
                supervisord.stop(settings)
                remove_temporary(settings)


def _start(settings: StackSettings, parts: tuple[str, ...]) -> None:
    stack.keep_private(settings.state_dir)
    wanted = {service.name: service for service in services(settings) if service.name in parts}
    if "studio" in wanted:  # its own check asks for Triton, too
        check = http_check(f"http://127.0.0.1:{settings.live_port}/live")
        wanted["studio"] = dataclasses.replace(wanted["studio"], check=check)
    fresh_folder(settings.state_dir / "scratch")
    postgres.prepare(settings)
    prepare_object_store(settings)
    prepare_front_door(settings)
    make_temporary_folder(settings)
    supervisord.start(settings, supervisord.write_configuration(settings, [*wanted.values()]), dict(os.environ))
    for name in ("postgres", "object-store", "front-door"):
        supervisord.start_service(settings, name)
    stack.wait_until_healthy([wanted["postgres"]], settings, print)
    stores.ensure_databases(settings)
    if "studio" in wanted:
        ensure_accounts(settings)
    for name in {"prefect", "mlflow", "studio"} & wanted.keys():
        supervisord.start_service(settings, name)
    stack.wait_until_healthy([wanted[name] for name in parts[1:]], settings, print)
    stores.ensure_buckets(settings)


@contextlib.contextmanager
def _served(app: Starlette, port: int) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


if __name__ == "__main__":  # to look at it by hand
    with run_public() as running:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        print(json.dumps({"url": running.url, "root": running.root, "state": str(running.settings.state_dir)}))
        threading.Event().wait()

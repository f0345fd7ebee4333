"""The Tritons that serve one repository, and which of them the control plane talks to.

A call goes to the server that `talking_to` has chosen, else to the first that answers. Of one server alone nobody asks
whether it answers: a call to it says so.
"""

import contextvars
import http.client
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from tasks.errors import StudioError
from tasks.settings import Settings
from tasks.triton_targets import TritonTarget, split_address

R = TypeVar("R")

PROBE_TIMEOUT_S = 3.0
AWAY_S = 5.0  # for so long a server that did not answer is not asked again
AT_ONCE = 16  # servers that are worked on side by side


class ServersAwayError(StudioError):
    """No Triton answers; a retry may help."""

    transient = True


@dataclass(frozen=True, order=True)
class TritonServer:
    """One Triton, by its addresses (host:port)."""

    grpc: str
    http: str

    def __str__(self) -> str:
        return self.http


_chosen: contextvars.ContextVar[TritonServer | None] = contextvars.ContextVar("triton_server", default=None)
_away_until: dict[TritonServer, float] = {}


def list_servers() -> list[TritonServer]:
    """Return all servers that the environment names, whether they answer or not.

    Raises:
        ServersAwayError: A name of which each address is a server has none.
    """
    return resolve(Settings().triton_target_list)


def resolve(targets: Iterable[TritonTarget]) -> list[TritonServer]:
    """Return the servers that targets name.

    Raises:
        ServersAwayError: A name of which each address is a server has none.
    """
    return list(dict.fromkeys(server for target in targets for server in _servers_of(target)))


def _servers_of(target: TritonTarget) -> Iterator[TritonServer]:
    grpc, http_ = split_address(target.grpc), split_address(target.http)
    if not target.by_dns or grpc is None or http_ is None:
        yield TritonServer(target.grpc, target.http)
        return
    try:
        found = socket.getaddrinfo(grpc[0], grpc[1], type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServersAwayError(
            f"expected addresses of Tritons under the name {grpc[0]} (TRITON_TARGETS), found none ({error}): see "
            "whether one runs, and whether the name is right"
        ) from error
    for address in sorted({str(each[4][0]) for each in found}):
        host = f"[{address}]" if ":" in address else address
        yield TritonServer(f"{host}:{grpc[1]}", f"{host}:{http_[1]}")


def are_several() -> bool:
    """Return whether there is more than one server."""
    return len(list_servers()) > 1


def setting_of(single: str) -> str:
    """Return the variable that names the servers: TRITON_TARGETS, or else `single`."""
    return "TRITON_TARGETS" if Settings().triton_targets else single


@contextmanager
def talking_to(server: TritonServer) -> Iterator[None]:
    """Have all calls of the block go to this server."""
    token = _chosen.set(server)
    try:
        yield
    finally:
        _chosen.reset(token)


def current_server() -> TritonServer:
    """Return the server to which calls go now."""
    if chosen := _chosen.get():
        return chosen
    servers = list_servers()
    return servers[0] if len(servers) == 1 else next(filter(is_live, servers), servers[0])


def live_servers() -> list[TritonServer]:
    """Return the servers that answer, in the order of the environment; a single one is not asked.

    Raises:
        ServersAwayError: There are several, and none answers.
    """
    servers = list_servers()
    if len(servers) == 1:
        return servers
    with ThreadPoolExecutor(min(len(servers), AT_ONCE)) as pool:
        live = [server for server, is_well in zip(servers, pool.map(is_live, servers), strict=True) if is_well]
    if not live:
        raise ServersAwayError(
            f"expected one of the Tritons {', '.join(map(str, servers))} (TRITON_TARGETS) to answer, found none that "
            "does. See whether they run with `studio status`, start those of this machine with `studio up`."
        )
    return live


def is_live(server: TritonServer) -> bool:
    """Return whether a server answers now; False also if it did not a moment ago."""
    if time.monotonic() < _away_until.get(server, 0.0):
        return False
    connection = http.client.HTTPConnection(server.http, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/v2/health/live")
        is_well = connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        is_well = False
    finally:
        connection.close()
    if not is_well:
        _away_until[server] = time.monotonic() + AWAY_S
    return is_well


def call_on_each(servers: Iterable[TritonServer], function: Callable[[], R]) -> dict[TritonServer, R]:
    """Return what `function` returns while it talks to each server, side by side; the first error is raised last."""
    chosen = list(servers)

    def call(server: TritonServer, context: contextvars.Context) -> R:
        return context.run(_call_on, server, function)

    if len(chosen) == 1:
        return {chosen[0]: _call_on(chosen[0], function)}
    with ThreadPoolExecutor(min(len(chosen), AT_ONCE) or 1) as pool:
        calls = [pool.submit(call, server, contextvars.copy_context()) for server in chosen]
    return {server: each.result() for server, each in zip(chosen, calls, strict=True)}


def _call_on(server: TritonServer, function: Callable[[], R]) -> R:
    with talking_to(server):
        return function()

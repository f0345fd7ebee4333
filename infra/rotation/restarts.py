"""Services that get new keys by starting anew: one after the other, and runs that workers leave go on."""

import time
import xmlrpc.client
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from infra import publish_predict, stack, supervisord
from infra.command_errors import StackError
from infra.registration import POOL
from infra.rotation import state
from infra.rotation.state import Rotation
from infra.services import MORE_TRITONS, s3_client, services
from infra.stack_settings import StackSettings
from infra.supervisord import WORKER, Service

Echo = Callable[[str], None]
# Prefect comes last: a worker that still has the former password cannot open its sockets anew, which carry heartbeats.
_WEB_SERVICES = ("mlflow", "studio", "prefect")
_AT_ONE_TIME = 200  # the most that Prefect's server gives


def require_ready(settings: StackSettings) -> None:
    """Check that the stack is whole, and that nobody works with its keys whom this cannot give new ones.

    Raises:
        StackError: It is not, or somebody does.
    """
    if away := sorted(name for name, found in supervisord.states(settings).items() if found != "RUNNING"):
        raise StackError(f"Expected all services at work, found {', '.join(away)} that are not: `studio up` first.")
    ours = {each.command[each.command.index("--name") + 1] for each in services(settings) if _is_worker(each)}
    with _prefect(settings) as api:
        online = _read_all(api, f"work_pools/{POOL}/workers/filter", {"workers": {"status": {"any_": ["ONLINE"]}}})
    if others := sorted({worker["name"] for worker in online} - ours):
        raise StackError(
            f"Expected no workers but those of this stack, found {', '.join(others)}: this cannot give them new keys, "
            "nor hand their runs over. End them with Ctrl-C, which does, and start them again afterwards. Prefect sees "
            "only after 90 s that a worker has ended."
        )


def restart_web_services(settings: StackSettings, say: Echo) -> None:
    """Start those anew that have not been since their environment was changed."""
    by_name = {service.name: service for service in services(settings)}
    for name in _WEB_SERVICES:
        if name in by_name and _is_stale(settings, name):
            _restart(settings, by_name[name], say)


def restart_workers(settings: StackSettings, rotation: Rotation, say: Echo) -> Rotation:
    """Start workers, Tritons and Label Studio anew: the last two know one key, which workers must have, too.

    Returns the rotation, with the flow runs that the workers have handed over.
    """
    workers, servers = (
        [each for each in services(settings) if chosen(each)] for chosen in (_is_worker, _knows_one_key)
    )
    is_stale = {each.name: _is_stale(settings, each.name) for each in (*workers, *servers)}
    if not any(is_stale.values()):
        return rotation
    began = time.monotonic()
    # Twice: a worker takes runs until it is stopped, and from the first time on it counts which ones have crashed.
    rotation = remember_runs(settings, rotation)
    with supervisord.connect(settings) as supervisor:
        supervisord.stop_workers(supervisor)
    rotation = remember_runs(settings, rotation)
    give_back(settings, rotation)
    if count := len(rotation.handed_over):
        say(f"  flow runs handed over: {count}; each goes on from what it has kept, a training from its last epoch")
    for server in servers:
        if is_stale[server.name]:
            _restart(settings, server, say)
    if not settings.is_elsewhere("TRITON_GRPC_URL"):
        publish_predict.ensure_served(settings, s3_client(settings))
    _start(settings, *workers)
    say(f"  no worker was there for {time.monotonic() - began:.0f} s")
    return rotation


def remember_runs(settings: StackSettings, rotation: Rotation) -> Rotation:
    """Write down the runs that workers have taken, and those that have crashed since this was asked first."""
    since = rotation.workers_ended_from or datetime.now(UTC)
    taken = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    crashed = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": since.isoformat()}}
    of_workers = {"work_pools": {"name": {"any_": [POOL]}}}
    with _prefect(settings) as api:
        found = [
            run
            for chosen in (taken, crashed)
            for run in _read_all(api, "flow_runs/filter", of_workers | {"flow_runs": chosen})
        ]
    runs = tuple(dict.fromkeys((*rotation.handed_over, *(UUID(run["id"]) for run in found))))
    known = {"handed_over": runs, "workers_ended_from": since}
    return state.write(settings.state_dir, rotation.model_copy(update=known))


def give_back(settings: StackSettings, rotation: Rotation) -> None:
    """Give the runs back that the workers have ended or never begun, while no worker is there.

    Prefect's automation, which tries crashed runs again, has just been started itself and may have missed these. It
    never takes those up that had not begun: it holds them for runs with wrong parameters.
    """
    given_back = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "its worker was given new keys"}
    with _prefect(settings) as api:
        for run in rotation.handed_over:
            answer = api.get(f"flow_runs/{run}")
            if answer.status_code == httpx.codes.NOT_FOUND:  # somebody has deleted it
                continue
            if answer.raise_for_status().json()["state_type"] in {"CRASHED", "PENDING"}:
                body = {"state": given_back, "force": True}
                api.post(f"flow_runs/{run}/set_state", json=body).raise_for_status()


def _read_all(api: httpx.Client, path: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """All that a filter of Prefect finds, in pages."""
    found: list[dict[str, Any]] = []
    while True:
        asked = wanted | {"limit": _AT_ONE_TIME, "offset": len(found)}
        page = api.post(path, json=asked).raise_for_status().json()
        found += page
        if len(page) < _AT_ONE_TIME:
            return found


def _is_worker(service: Service) -> bool:
    return WORKER in service.name


def _knows_one_key(service: Service) -> bool:
    return service.name in {"triton", "label-studio"} or service.name.startswith(MORE_TRITONS)


def _is_stale(settings: StackSettings, name: str) -> bool:
    """Whether a service has not been started since its environment was changed."""
    with supervisord.connect(settings) as supervisor:
        found: Any = supervisor.getProcessInfo(name)
    changed = (settings.state_dir / "services" / f"{name}.json").stat().st_mtime
    return found["statename"] != "RUNNING" or float(found["start"]) <= changed


def _restart(settings: StackSettings, service: Service, say: Echo) -> None:
    began = time.monotonic()
    _stop(settings, service)
    _start(settings, service)
    say(f"  {service.name} was away for {time.monotonic() - began:.0f} s")


def _stop(settings: StackSettings, service: Service) -> None:
    # A service that does not run is one that has stopped.
    with supervisord.connect(settings) as supervisor, suppress(xmlrpc.client.Fault):
        supervisor.stopProcess(service.name)


def _start(settings: StackSettings, *started: Service) -> None:
    for service in started:
        supervisord.start_service(settings, service.name)
    stack.wait_until_healthy(started, settings, lambda _: None)


def _prefect(settings: StackSettings) -> httpx.Client:
    user, _, password = settings.environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    return httpx.Client(base_url=settings.environment["PREFECT_API_URL"], auth=auth, timeout=30)

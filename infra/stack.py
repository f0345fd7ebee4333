"""The local stack: `python -m infra.stack up | down | status`."""

import argparse
import asyncio
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg2
from botocore.exceptions import BotoCoreError, ClientError
from dotenv import dotenv_values
from rich.console import Console
from rich.table import Table

from infra import postgres, supervision
from infra.service import Service
from infra.services import services
from infra.settings import HOST, ROOT, StackSettings, write_private

START_SECONDS = 180
ELSEWHERE = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL")
AWS_MISLEADING = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
Say = Callable[[str], None]


class StackError(RuntimeError):
    """The stack could not do what was asked; the message says what to do."""


def up(settings: StackSettings, say: Say = print) -> None:
    """Start what is not running yet, wait until every service is well, and register buckets, pool and deployments."""
    began = time.monotonic()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    settings.state_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)  # as root, the database's user passes through
    (settings.state_dir / "logs").mkdir(exist_ok=True)
    wanted = services(settings)
    environment = stack_environment(settings)
    adopt(environment, local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    require_elsewhere(settings)
    if supervision.process(settings) is None:
        if any(service.name == "triton" for service in wanted):
            require_triton()
        require_free_ports(wanted, settings)
        shutil.rmtree(scratch(settings), ignore_errors=True)  # of runs that were killed
        if any(service.name == "postgres" for service in wanted):
            postgres.prepare(settings)
        supervision.start(settings, supervision.write_configuration(settings, wanted), environment)
        settings.remember()
    write_private(settings.state_dir / "env", shell_text(settings.environment))
    _start_in_order(settings, wanted, say)
    say(f"stack is up after {time.monotonic() - began:.0f} s")


def _start_in_order(settings: StackSettings, wanted: list[Service], say: Say) -> None:
    """Stores first, then all servers side by side, and the worker when it has something to ask."""
    # Imported late: what prefect imports reads PREFECT_API_URL.
    from infra import bootstrap

    by_name = {service.name: service for service in wanted}
    for name in ("postgres", "object-store"):
        start(by_name, name, settings)
    wait_until_well(by_name, ("postgres",), settings, say)
    if by_name.keys() & {"prefect", "mlflow"}:
        bootstrap.ensure_databases(settings)
    for name in ("prefect", "mlflow"):
        start(by_name, name, settings)
    wait_until_well(by_name, ("object-store",), settings, say)
    bootstrap.ensure_buckets(settings)
    start(by_name, "triton", settings)
    wait_until_well(by_name, ("prefect",), settings, say)
    bootstrap.ensure_work_pool()
    asyncio.run(bootstrap.ensure_automations())
    start(by_name, "worker", settings)
    bootstrap.register_deployments()
    wait_until_well(by_name, ("mlflow", "triton", "worker"), settings, say)


def start(by_name: Mapping[str, Service], name: str, settings: StackSettings) -> None:
    """Start a service, where it is one that runs here."""
    if name in by_name:
        supervision.start_service(settings, name)


def load_settings() -> StackSettings:
    """The settings of the stack that runs from this state folder, or of the one to start.

    A running stack goes on with the services elsewhere that it was started with. Raises StackError where the
    environment asks for other ports than it has.
    """
    settings = StackSettings.load()
    if supervision.process(settings) is None:
        return settings
    for name, value in dotenv_values(settings.state_dir / "env").items():
        os.environ.setdefault(name, value or "")
    for name, value in settings.remembered.items():
        asked = getattr(settings, name.removeprefix("STUDIO_").lower(), value)
        if "PORT" in name and str(asked) != value:
            raise StackError(f"The stack is up with {name}={value}, not {asked}: `make down` first, without {name}.")
    return settings


def stack_environment(settings: StackSettings) -> dict[str, str]:
    """What every service and flow run inherits."""
    state = settings.state_dir
    return {
        **settings.environment,
        "PYTHONPATH": str(ROOT),
        "STUDIO_STATE_DIR": str(state),
        "STUDIO_TRITON_VENV": str(settings.triton_venv),
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLI_COLORS": "false",
        "STUDIO_SCRATCH_DIR": os.environ.get("STUDIO_SCRATCH_DIR") or str(scratch(settings)),
        "YOLO_CONFIG_DIR": str(state / "ultralytics"),
        "YOLO_AUTOINSTALL": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # A training must not wait minutes for a tracking server that is down.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"])),
    }


def adopt(environment: Mapping[str, str], *, local_store: bool) -> None:
    """Make `environment` the one of this process, without what would lead its tools elsewhere."""
    os.environ.update(environment)
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    os.environ.pop("no_proxy", None)
    if local_store:
        for name in AWS_MISLEADING:
            os.environ.pop(name, None)
        os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)


def require_elsewhere(settings: StackSettings) -> None:
    """Raise StackError where the environment names a service elsewhere that does not answer."""
    for variable in ELSEWHERE:
        if not settings.is_elsewhere(variable):
            continue
        address = settings.environment[variable]
        parts = urlsplit(address if "//" in address else f"//{address}")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=5).close()
        except (OSError, ValueError) as error:
            raise StackError(
                f"{variable} names {address}, which does not answer ({error}): start it, or unset {variable} to have "
                f"the local stack run one."
            ) from error


def require_triton() -> None:
    """Raise StackError where tritonserver could not start, before anything else does."""
    from infra import triton

    try:
        triton.Installation(StackSettings.load().triton_venv.resolve()).check()
        triton.python_library_folder()
    except triton.TritonError as error:
        raise StackError(f"Triton cannot run here: {error}") from error


def scratch(settings: StackSettings) -> Path:
    """Parent of the scratch folders of the runs."""
    return settings.state_dir / "scratch"


def require_free_ports(wanted: Iterable[Service], settings: StackSettings) -> None:
    """Raise StackError naming each port that another program holds, and the setting that moves it."""
    taken = []
    needed = [("supervisor", {"STUDIO_SUPERVISOR_PORT": settings.supervisor_port})]
    for name, ports in [*needed, *((service.name, service.ports) for service in wanted)]:
        for setting, port in ports.items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    taken.append(f"port {port} of {name} is in use; stop what holds it or set {setting}")
    if taken:
        raise StackError("\n".join([*taken, "for example: STUDIO_PREFECT_PORT=4300 make up"]))


def wait_until_well(by_name: Mapping[str, Service], names: Iterable[str], settings: StackSettings, say: Say) -> None:
    """Wait until the checks pass; raises StackError with the log to read when one does not in time."""
    began, pending = time.monotonic(), {name: by_name[name] for name in names if name in by_name}
    while pending:
        for name, service in list(pending.items()):
            reason = illness(service)
            if reason is None:
                say(f"  {name:<14}{service.address}")
                del pending[name]
            elif time.monotonic() - began > START_SECONDS:
                log = settings.state_dir / "logs" / f"{name}.log"
                raise StackError(f"{name} was not well after {START_SECONDS} s ({reason}); its log: {log}")
        time.sleep(0.2)


def illness(service: Service) -> str | None:
    """Why a service is not well, or None."""
    try:
        service.check()
    except Exception as error:  # noqa: BLE001 - whatever a health check raises is the answer
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def shell_text(environment: Mapping[str, str]) -> str:
    """Lines for `set -a; . .studio/env`."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


def status(settings: StackSettings, console: Console) -> bool:
    """Print each service, its address and its health; False when one is not well."""
    table = Table("service", "address", "process", "health")
    states, well = supervision.states(settings), True
    adopt(stack_environment(settings), local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    for service in services(settings):
        reason = illness(service)
        well = well and reason is None
        table.add_row(service.name, service.address, states.get(service.name, "DOWN"), reason or "well")
    for variable in ELSEWHERE:
        if settings.is_elsewhere(variable):
            table.add_row(variable, settings.environment[variable], "elsewhere", "")
    console.print(table)
    console.print(f"logs: {settings.state_dir / 'logs'}")
    return well


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with the reason alone where a service, the network or the environment is to blame."""
    try:
        yield
    except RuntimeError as error:
        sys.exit(str(error))
    except (BotoCoreError, ClientError, httpx.HTTPError, psycopg2.Error, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}\n`make status` shows the services and where their logs are.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status"))
    command = parser.parse_args().command
    with plain_errors():
        settings = load_settings()
        if command == "up":
            up(settings)
        elif command == "down":
            print("stack is down" if supervision.stop(settings) else "stack was not up")
            (settings.state_dir / "env").unlink(missing_ok=True)
        elif not status(settings, Console()):
            sys.exit(1)


if __name__ == "__main__":
    main()

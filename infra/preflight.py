"""What has to be true before the stack starts; each check names what to do when it is not."""

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from infra import triton
from infra.command_errors import StackError
from infra.ports import is_free
from infra.service import Service
from infra.stack_settings import StackSettings

EXTERNAL_SERVICE_VARIABLES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL")


def require_external_services(settings: StackSettings) -> None:
    """Raise StackError where the environment names a service elsewhere that does not answer."""
    for variable in EXTERNAL_SERVICE_VARIABLES:
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
    try:
        triton.Installation(StackSettings.load().triton_venv.resolve()).check()
        triton.python_library_folder()
    except triton.TritonError as error:
        raise StackError(f"Triton cannot run here: {error}") from error


def require_free_ports(wanted: Iterable[Service], settings: StackSettings) -> None:
    """Raise StackError naming each port that another program holds, and settings that move them to free ones."""
    taken = []
    needed = [("supervisor", {"STUDIO_SUPERVISOR_PORT": settings.supervisor_port})]
    for name, ports in [*needed, *((service.name, service.ports) for service in wanted)]:
        for setting, port in ports.items():
            if not is_free(port):
                taken.append(f"port {port} of {name} is in use; stop what holds it or set {setting}")
    if taken:
        raise StackError("\n".join([*taken, f"for example: export {_free_ports(settings)}"]))


def _free_ports(settings: StackSettings) -> str:
    """Settings that move all ports of the stack by one number to where all are free."""
    ports = [(name, getattr(settings, name)) for name in StackSettings.model_fields if name.endswith("_port")]
    moves = (move for move in range(100, 10_000, 100) if all(_are_free(port + move) for _, port in ports))
    move = next(moves, 0)
    return " ".join(f"STUDIO_{name.upper()}={port + move}" for name, port in ports)


def _are_free(port: int) -> bool:
    return port <= 55535 and is_free(port) and is_free(port + 10_000)

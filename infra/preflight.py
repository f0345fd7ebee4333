"""What has to be true before the stack starts; each check names what to do when it is not."""

import shutil
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from infra.command_errors import StackError
from infra.ports import is_free
from infra.stack_settings import REVIEW_TOOLS, StackSettings
from infra.supervisord import Service
from infra.triton import find_installation

EXTERNAL_SERVICE_VARIABLES = (
    *("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL"),
    *REVIEW_TOOLS,
)


def require_external_services(settings: StackSettings) -> None:
    """Check that each service elsewhere that the environment names answers.

    Raises:
        StackError: One does not.
    """
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


def require_triton(settings: StackSettings) -> None:
    """Check that tritonserver can start, before anything else does.

    Raises:
        StackError: A part of it is missing.
    """
    try:
        find_installation(settings.triton_venv.resolve())
    except StackError as error:
        raise StackError(f"Triton cannot run here: {error}") from error


def require_label_studio(settings: StackSettings) -> None:
    """Check that Label Studio is installed, before anything starts.

    Raises:
        StackError: It is not.
    """
    if not (settings.review_venv / "bin" / "label-studio").is_file():
        raise StackError(
            f"expected Label Studio in {settings.review_venv}, found none: run `make up REVIEW=1`, or "
            "`make up REVIEW=0` to go on without it"
        )


def require_prometheus(settings: StackSettings) -> None:
    """Check that Prometheus and Alertmanager are installed, before anything starts.

    Raises:
        StackError: One is not.
    """
    for setting, program in (
        ("STUDIO_PROMETHEUS", settings.prometheus),
        ("STUDIO_ALERTMANAGER", settings.alertmanager),
    ):
        if shutil.which(program) is None:
            raise StackError(
                f"expected the program {program} of {setting}, found none: `apt-get install prometheus "
                f"prometheus-alertmanager`, set {setting} to where it is, or `make up METRICS=0` to go on without"
            )


def require_free_ports(wanted: Iterable[Service], settings: StackSettings) -> None:
    """Check that no other program holds a port of these services.

    Raises:
        StackError: One does; the message has settings that move all ports to free ones.
    """
    ports_by_name = {"supervisor": {"STUDIO_SUPERVISOR_PORT": settings.supervisor_port}}
    ports_by_name |= {service.name: service.ports for service in wanted}
    taken = [
        f"port {port} of {name} is in use; stop what holds it or set {setting}"
        for name, ports in ports_by_name.items()
        for setting, port in ports.items()
        if not is_free(port)
    ]
    if taken:
        raise StackError("\n".join([*taken, f"for example: export {_free_ports(settings)}"]))


def _free_ports(settings: StackSettings) -> str:
    """Settings that move all ports of the stack by one number, to free ones."""
    ports = {name: getattr(settings, name) for name in StackSettings.model_fields if name.endswith("_port")}

    def are_free(move: int) -> bool:
        moved = [port + move for port in ports.values()]
        return all(port <= 55535 and is_free(port) and is_free(port + 10_000) for port in moved)

    move = next(filter(are_free, range(100, 10_000, 100)), 0)
    return " ".join(f"STUDIO_{name.upper()}={port + move}" for name, port in ports.items())

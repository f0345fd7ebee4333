"""What has to be true before the stack starts; each check names what to do when it is not."""

import shutil
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from infra.command_errors import StackError
from infra.ports import is_free
from infra.stack_settings import HOST, REVIEW_TOOLS, StackSettings, is_address
from infra.supervisord import Service
from infra.triton import find_installation
from tasks.triton_targets import TritonTarget

EXTERNAL_SERVICE_VARIABLES = (
    *("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL"),
    *REVIEW_TOOLS,
)


def require_loopback(settings: StackSettings) -> None:
    """Check that the services will listen on this machine alone.

    Raises:
        StackError: They would not.
    """
    if settings.bind != HOST:
        raise StackError(
            f"Expected STUDIO_BIND to be {HOST}, found {settings.bind}, which is for containers: unset it, or use "
            "infra/compose.yaml."
        )


def require_external_services(settings: StackSettings) -> None:
    """Check that each service elsewhere that the environment names answers.

    Raises:
        StackError: One does not.
    """
    named = [(name, settings.environment[name]) for name in EXTERNAL_SERVICE_VARIABLES if settings.is_elsewhere(name)]
    for variable, address in [*named, *(("TRITON_TARGETS", address) for address in other_targets(settings))]:
        parts = urlsplit(address if "//" in address else f"//{address}")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=5).close()
        except (OSError, ValueError) as error:
            raise StackError(
                f"{variable} names {address}, which does not answer ({error}): start it, or unset {variable} to have "
                f"the local stack run one."
            ) from error


def other_targets(settings: StackSettings) -> list[str]:
    """Return the gRPC addresses that TRITON_TARGETS names besides the Tritons of this stack.

    Raises:
        StackError: TRITON_TARGETS is not what it should be.
    """
    here = [] if settings.is_elsewhere("TRITON_GRPC_URL") else [target.grpc for target in settings.local_tritons]
    return [target.grpc for target in _targets(settings) if not any(is_address(target.grpc, each) for each in here)]


def _targets(settings: StackSettings) -> list[TritonTarget]:
    try:
        return settings.triton_targets
    except ValueError as error:
        raise StackError(str(error)) from error


def require_local_targets(settings: StackSettings) -> None:
    """Check that TRITON_TARGETS, if it is set, names each Triton that is to run here.

    Raises:
        StackError: It does not, so nothing would ever be deployed to one of them.
    """
    named = [target.grpc for target in _targets(settings)]
    for target in settings.local_tritons:
        if not any(is_address(address, target.grpc) for address in named):
            raise StackError(
                f"expected TRITON_TARGETS to name the Triton that runs here, {target}, found {', '.join(named)}: add "
                "it, unset TRITON_TARGETS, or set TRITON_GRPC_URL and TRITON_HTTP_URL to one of these, so that none "
                "runs here"
            )


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

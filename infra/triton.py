"""Become the real tritonserver: `python -m infra.triton`.

The process is replaced, so the supervisor's signals reach tritonserver itself. The server is in the wheel of
nvidia-pytriton; its command line says which models, ports and secrets it uses.
"""

import os
import re
import shlex
import signal
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra import hidden_argument
from infra.command_errors import StackError
from infra.ports import is_free
from infra.stack_settings import HOST, StackSettings
from infra.temporary import (
    SHARED_MEMORY,
    fresh_folder,
    make_temporary_folder,
    shared_memory,
    shared_memory_prefix,
    temporary_folder,
)

KEY_HEADER = "triton-access-key"
BUCKET = "models"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# The load API runs Python code that it is sent; the others read and write memory, files and settings of the server.
RESTRICTED = "model-repository,shared-memory,trace,logging"
GUARD = "STUDIO_TRITON_GUARD"  # tritonserver takes it on the command line alone, which all users can read
SUMMARIES = "summary_latencies=true"  # percentiles of latency, of which its metrics have only the sum otherwise
PREDICT_HEADERS = ("model", "version", "confidence", "iou")  # the request parameters of model `predict`


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The parts of tritonserver in the environment of nvidia-pytriton.

    Models import from `packages` and run in the program `stub`, with libpython3.x.so from the folder `python_library`.
    """

    venv: Path
    packages: Path
    server: Path
    stub: Path
    python_library: Path


def find_installation(venv: Path) -> Installation:
    """Return the parts of tritonserver in a virtual environment.

    Raises:
        StackError: A part is missing.
    """
    packages = venv / "lib" / f"python{PYTHON}" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not (server / "bin" / "tritonserver").is_file() or not stub.is_file():
        raise StackError(
            f"expected nvidia-pytriton for Python {PYTHON} in {venv}, found none: run `make setup`, or set "
            "STUDIO_TRITON_VENV to an environment that has it"
        )
    return Installation(venv=venv, packages=packages, server=server, stub=stub, python_library=_python_library_folder())


def _python_library_folder() -> Path:
    library = f"libpython{PYTHON}.so.1.0"
    libraries, multiarch = (sysconfig.get_config_var(name) or "" for name in ("LIBDIR", "MULTIARCH"))
    folders = [Path(sys.base_prefix, "lib"), Path(libraries), Path(libraries, multiarch), Path("/usr/lib", multiarch)]
    for folder in folders:
        if (folder / library).is_file():
            return folder
    raise StackError(
        f"expected {library} of the running Python in {' or '.join(dict.fromkeys(map(str, folders)))}, found none. "
        f"Install it (`apt-get install libpython{PYTHON}`), or take a Python that has it: `uv python install {PYTHON}`"
    )


def _require_free_ports(settings: StackSettings) -> dict[str, int]:
    ports = {
        "http": _port("TRITON_HTTP_URL", settings.triton_http_port),
        "grpc": _port("TRITON_GRPC_URL", settings.triton_grpc_port),
        "metrics": settings.triton_metrics_port,
    }
    for name, port in ports.items():
        if not is_free(port):
            setting = f"STUDIO_TRITON_{name.upper()}_PORT"
            raise StackError(f"port {port} of {HOST} is in use: stop what listens there, or set {setting}")
    return ports


def _port(variable: str, default: int) -> int:
    address = os.environ.get(variable) or f"{HOST}:{default}"
    port = address.rpartition(":")[2]
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise StackError(f"expected {variable} as host:port, found {address!r}")
    return int(port)


def _remove_orphans(backends: Path, http_port: int) -> None:
    """End model processes of an earlier server of this folder, and remove its shared memory.

    A server that was killed in the middle of a request can leave a process that waits for it for ever. The ports are
    free, so no living server owns them.
    """
    stub = str(backends / "python" / "triton_python_backend_stub").encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().split(b"\0")[0] == stub:
                os.kill(int(process.name), signal.SIGKILL)
    for left in shared_memory(http_port):
        left.unlink(missing_ok=True)


def _backend_folder(installation: Installation, state: Path, http_port: int) -> Path:
    """A fresh backend directory: the Python backend with the stub of the running Python.

    Triton makes the memory that it shares with a stub readable for all, whatever the umask: it is shut before the stub
    has begun, and with it before any picture is in it.
    """
    backends = state / "backends"
    _remove_orphans(backends, http_port)
    fresh_folder(backends)
    python = fresh_folder(backends / "python")
    for part in (installation.server / "backends" / "python").iterdir():
        (python / part.name).symlink_to(part.resolve())
    stub = python / installation.stub.name
    segments = f"{SHARED_MEMORY}/{shared_memory_prefix(http_port)}"
    stub.write_text(
        f'#!/bin/bash\nchmod 600 {segments}*\nexec -a "$0" {shlex.quote(str(installation.stub.resolve()))} "$@"\n'
    )
    stub.chmod(0o700)
    return backends


def _repository() -> str:
    # Triton's own spelling of the bucket: `s3://http://host:port/models`.
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if not endpoint:
        return f"s3://{BUCKET}"
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "_" in parts.hostname:
        raise StackError(f"expected AWS_ENDPOINT_URL as http(s)://host:port, no '_' in the host, found {endpoint!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"s3://{parts.scheme}://{host}:{port}/{BUCKET}"


def deployed_models() -> list[str]:
    """Return the models to serve from the start: those with a config.pbtxt, which deploying writes last.

    Raises:
        StackError: The object store does not list the bucket.
    """
    limits = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})
    try:
        pages = boto3.client("s3", config=limits).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    except (BotoCoreError, ClientError) as error:
        address = os.environ.get("AWS_ENDPOINT_URL", "AWS S3")
        raise StackError(f"cannot list bucket {BUCKET!r} at {address} (AWS_ENDPOINT_URL): {error}") from error
    return sorted(name for name, _, rest in (key.partition("/") for key in keys) if rest == "config.pbtxt")


def _guard(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or "," in key or ":" in key or "=" in key:
        raise StackError("expected STUDIO_TRITON_KEY of letters and digits: without it the load API is open to all")
    return f"{RESTRICTED}:{KEY_HEADER}={key}"


def _command(
    installation: Installation, ports: dict[str, int], state: Path, *, bind: str, has_summaries: bool
) -> list[str]:
    """The command line, with the name of the variable GUARD in place of its value."""
    options = {
        "model-repository": _repository(),
        "model-control-mode": "explicit",
        "backend-directory": _backend_folder(installation, state, ports["http"]),
        "backend-config": f"python,shm-region-prefix-name={shared_memory_prefix(ports['http'])}",
        **{f"{name}-address": bind for name in ports},
        **{f"{name}-port": port for name, port in ports.items()},
        # One model that does not load must not take the others down.
        "strict-readiness": "false",
        "exit-on-error": "false",
        # A client that stays connected must not hold it up, nor what is left of a version that was refused.
        "exit-timeout-secs": 5,
        **({"metrics-config": SUMMARIES} if has_summaries else {}),
        # A bare `curl --data-binary @photo.jpg` can say these only in headers.
        "http-header-forward-pattern": f"(?i)^({'|'.join(PREDICT_HEADERS)})$",
    }
    line = [
        str(installation.server / "bin" / "tritonserver"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    # Our configs are whole: to complete them it would start each model once more, before it starts it.
    line += ["--disable-auto-complete-config"]
    line += ["--http-restricted-api", GUARD, "--grpc-restricted-protocol", GUARD]
    return line + [f"--load-model={name}" for name in deployed_models()]


def _environment(installation: Installation, state: Path) -> dict[str, str]:
    """The environment in which tritonserver finds its libraries, and its models the Python packages they need."""
    values = dict(os.environ)
    _prepend(values, "LD_LIBRARY_PATH", installation.packages / "nvidia_pytriton.libs", installation.python_library)
    _prepend(values, "PATH", installation.venv / "bin")
    values["PYTHONPATH"] = str(installation.packages)  # of ours, models see nothing
    values.pop("PYTHONHOME", None)
    values["TRITON_AWS_MOUNT_DIRECTORY"] = str(fresh_folder(state / "models"))
    return values


def _prepend(values: dict[str, str], name: str, *folders: Path) -> None:
    values[name] = os.pathsep.join([*map(str, folders), *filter(None, [values.get(name, "")])])


def _shell_safe_folder(settings: StackSettings, port: int) -> Path:
    """A folder for this server's files; Triton's Python backend puts their paths unquoted on a shell's command line."""
    state = settings.state_dir.resolve()
    if not re.fullmatch(r"[\w./-]+", str(state)):
        make_temporary_folder(settings)
        state = temporary_folder(settings)
    return state / f"triton-{port}"


def main() -> None:
    """Replace this process by tritonserver; exits with a message if that is not possible."""
    settings = StackSettings.load()
    try:
        installation = find_installation(settings.triton_venv.resolve())
        ports = _require_free_ports(settings)
        state = _shell_safe_folder(settings, ports["http"])
        guard = _guard(os.environ.get("STUDIO_TRITON_KEY", ""))
        line = _command(installation, ports, state, bind=settings.bind, has_summaries=settings.metrics)
        values = _environment(installation, state) | {GUARD: guard}
    except StackError as error:
        sys.exit(f"tritonserver cannot start: {error}")
    hidden_argument.execute(line, values, GUARD)


if __name__ == "__main__":
    main()

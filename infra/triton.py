"""Become the real tritonserver: `python -m infra.triton`.

The process is replaced, so the supervisor's signals reach tritonserver itself. The wheel of nvidia-pytriton carries the
server; this finds its parts, and tells it where models, ports and secrets are.
"""

import os
import re
import shlex
import shutil
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
PREDICT_HEADERS = ("model", "version", "confidence", "iou")  # the request parameters of model `predict`


class TritonError(RuntimeError):
    """tritonserver cannot start; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Addresses:
    """Where this server listens, always on this machine only."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def find(cls, settings: StackSettings) -> "Addresses":
        """Ports from TRITON_HTTP_URL and TRITON_GRPC_URL (host:port), each free or a TritonError naming the setting."""
        found = cls(
            _port("TRITON_HTTP_URL", settings.triton_http_port),
            _port("TRITON_GRPC_URL", settings.triton_grpc_port),
            settings.triton_metrics_port,
        )
        for name in ("http", "grpc", "metrics"):
            _expect_free(getattr(found, name), f"STUDIO_TRITON_{name.upper()}_PORT")
        return found


def _port(variable: str, default: int) -> int:
    address = os.environ.get(variable) or f"{HOST}:{default}"
    port = address.rpartition(":")[2]
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise TritonError(f"expected {variable} as host:port, found {address!r}")
    return int(port)


def _expect_free(port: int, setting: str) -> None:
    if not is_free(port):
        raise TritonError(f"port {port} of {HOST} is in use: stop what listens there, or set {setting}")


@dataclass(frozen=True)
class Installation:
    """The parts of tritonserver in the environment of nvidia-pytriton."""

    venv: Path

    @property
    def packages(self) -> Path:
        """The site-packages that the models import from."""
        return self.venv / "lib" / f"python{PYTHON}" / "site-packages"

    @property
    def server(self) -> Path:
        """The folder of the server itself."""
        return self.packages / "pytriton" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The program that runs a Python model."""
        return self.server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"

    @property
    def binary(self) -> Path:
        """The server's program."""
        return self.server / "bin" / "tritonserver"

    def check(self) -> None:
        """Raise TritonError where a part is missing."""
        if not self.binary.is_file() or not self.stub.is_file():
            raise TritonError(
                f"expected nvidia-pytriton for Python {PYTHON} in {self.venv}, found none: run `make setup`, or set "
                "STUDIO_TRITON_VENV to an environment that has it"
            )


def python_library_folder() -> Path:
    """The folder of libpython3.x.so, which Python models run in."""
    library = f"libpython{PYTHON}.so.1.0"
    libraries, multiarch = (sysconfig.get_config_var(name) or "" for name in ("LIBDIR", "MULTIARCH"))
    folders = [
        Path(sys.base_prefix) / "lib",
        Path(libraries),
        Path(libraries) / multiarch,
        Path("/usr/lib") / multiarch,
    ]
    for folder in folders:
        if (folder / library).is_file():
            return folder
    raise TritonError(
        f"expected {library} of the running Python in {' or '.join(dict.fromkeys(map(str, folders)))}, found none. "
        f"Install it (`apt-get install libpython{PYTHON}`), or take a Python that has it: `uv python install {PYTHON}`"
    )


def kill_orphans(backends: Path) -> None:
    """End model processes of an earlier server of this folder: one that was killed in the middle of a request can
    leave a process that waits for it for ever. The ports being free, no living server owns them.
    """
    stub = str(backends / "python" / "triton_python_backend_stub").encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().split(b"\0")[0] == stub:
                os.kill(int(process.name), signal.SIGKILL)


def backend_folder(installation: Installation, state: Path, http_port: int) -> Path:
    """A fresh backend directory: the Python backend with the stub of the running Python.

    Triton makes the memory that it shares with a stub readable for all, whatever the umask: it is shut before the stub
    has begun, and with it before any picture is in it.
    """
    backends = state / "backends"
    python = backends / "python"
    kill_orphans(backends)
    shutil.rmtree(backends, ignore_errors=True)
    python.mkdir(parents=True)
    for part in (installation.server / "backends" / "python").iterdir():
        (python / part.name).symlink_to(part.resolve())
    stub = python / installation.stub.name
    segments = f"{SHARED_MEMORY}/{shared_memory_prefix(http_port)}"
    stub.write_text(
        f'#!/bin/bash\nchmod 600 {segments}*\nexec -a "$0" {shlex.quote(str(installation.stub.resolve()))} "$@"\n'
    )
    stub.chmod(0o700)
    return backends


def fresh_folder(path: Path) -> Path:
    """An empty folder: a server that was killed leaves its copies of the models behind."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def fresh_shared_memory(http_port: int) -> str:
    """The prefix of this server's shared memory; what a killed server left under it is removed."""
    prefix = shared_memory_prefix(http_port)
    for left in shared_memory(prefix):
        left.unlink(missing_ok=True)
    return prefix


def repository() -> str:
    """The `models` bucket in Triton's own spelling: `s3://http://host:port/models`."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if not endpoint:
        return f"s3://{BUCKET}"
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "_" in parts.hostname:
        raise TritonError(f"expected AWS_ENDPOINT_URL as http(s)://host:port, no '_' in the host, found {endpoint!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"s3://{parts.scheme}://{host}:{port}/{BUCKET}"


def deployed_models() -> list[str]:
    """Models to serve from the start: those with a config.pbtxt, which deploying writes last."""
    limits = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})
    try:
        pages = boto3.client("s3", config=limits).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    except (BotoCoreError, ClientError) as error:
        where = os.environ.get("AWS_ENDPOINT_URL", "AWS S3")
        raise TritonError(f"cannot list bucket {BUCKET!r} at {where} (AWS_ENDPOINT_URL): {error}") from error
    return sorted(name for name, _, rest in (key.partition("/") for key in keys) if rest == "config.pbtxt")


def guard(key: str) -> str:
    """What shuts parts of Triton to those without the key, in the words of its command line."""
    if not key or not key.isascii() or not key.isprintable() or "," in key or ":" in key or "=" in key:
        raise TritonError("expected STUDIO_TRITON_KEY of letters and digits: without it the load API is open to all")
    return f"{RESTRICTED}:{KEY_HEADER}={key}"


def command(installation: Installation, addresses: Addresses, state: Path) -> list[str]:
    """The command line; where the variable's name stands in it, the guard is for Triton alone."""
    options = {
        "model-repository": repository(),
        "model-control-mode": "explicit",
        "backend-directory": str(backend_folder(installation, state, addresses.http)),
        "backend-config": f"python,shm-region-prefix-name={fresh_shared_memory(addresses.http)}",
        "http-address": HOST,
        "http-port": str(addresses.http),
        "grpc-address": HOST,
        "grpc-port": str(addresses.grpc),
        "metrics-address": HOST,
        "metrics-port": str(addresses.metrics),
        # One model that does not load must not take the others down.
        "strict-readiness": "false",
        "exit-on-error": "false",
        # A client that stays connected must not hold it up for longer than the supervisor waits.
        "exit-timeout-secs": "10",
        # A bare `curl --data-binary @photo.jpg` can say these only in headers.
        "http-header-forward-pattern": f"(?i)^({'|'.join(PREDICT_HEADERS)})$",
    }
    line = [str(installation.binary), *(f"--{name}={value}" for name, value in options.items())]
    line += ["--http-restricted-api", GUARD, "--grpc-restricted-protocol", GUARD]
    return line + [f"--load-model={name}" for name in deployed_models()]


def environment(installation: Installation, state: Path) -> dict[str, str]:
    """The environment in which tritonserver finds its libraries, and its models the Python packages they need."""
    values = dict(os.environ)
    libraries = [installation.packages / "nvidia_pytriton.libs", python_library_folder()]
    _prepend(values, "LD_LIBRARY_PATH", *libraries)
    _prepend(values, "PATH", installation.venv / "bin")
    values["PYTHONPATH"] = str(installation.packages)  # of ours, models see nothing
    values.pop("PYTHONHOME", None)
    values["TRITON_AWS_MOUNT_DIRECTORY"] = str(fresh_folder(state / "models"))
    return values


def _prepend(values: dict[str, str], name: str, *folders: Path) -> None:
    values[name] = os.pathsep.join([*map(str, folders), *filter(None, [values.get(name, "")])])


def shell_safe_folder(settings: StackSettings, port: int) -> Path:
    """A folder for this server's files; Triton's Python backend puts their paths unquoted on a shell's command line."""
    name, state = f"triton-{port}", settings.state_dir.resolve()
    if re.fullmatch(r"[\w./-]+", str(state)):
        return state / name
    make_temporary_folder(settings)
    return temporary_folder(settings) / name


def main() -> None:
    """Replace this process by tritonserver; exits with a message where that cannot be."""
    settings = StackSettings.load()
    installation = Installation(settings.triton_venv.resolve())
    try:
        installation.check()
        addresses = Addresses.find(settings)
        state = shell_safe_folder(settings, addresses.http)
        shut = guard(os.environ.get("STUDIO_TRITON_KEY", ""))
        line = command(installation, addresses, state)
        values = environment(installation, state) | {GUARD: shut}
    except (TritonError, StackError) as error:
        sys.exit(f"tritonserver cannot start: {error}")
    hidden_argument.execute(line, values, GUARD)


if __name__ == "__main__":
    main()

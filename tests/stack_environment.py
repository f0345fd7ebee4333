"""The environment of the tests: a state folder of their own, and the ports of a stack of their own."""

import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = (
    *("SUPERVISOR", "POSTGRES", "PREFECT", "WORKER", "MLFLOW", "S3", "S3_MASTER", "S3_VOLUME", "S3_FILER"),
    *("TRITON_HTTP", "TRITON_GRPC", "TRITON_METRICS", "LIVE", "LABEL_STUDIO", "TRAINING_WORKER"),
    *("PROMETHEUS", "ALERTMANAGER", "ALERT_SENDER"),
)
CLOSED = 1  # the first of the ports at which nothing listens: a call to a service fails at once


def set_environment(*, stack: bool) -> Path:
    """Set the environment of this process and its children; prefect reads it when it is imported.

    Args:
        stack: Choose free ports for a stack. Without, every address is one at which no service can be.

    Returns:
        The state folder, which is new and empty.
    """
    state = Path(tempfile.mkdtemp(prefix="studio-test-")) / "state"
    state.mkdir()
    first = free_block(len(PORTS)) if stack else CLOSED
    for number, name in enumerate(PORTS):
        os.environ[f"STUDIO_{name}_PORT"] = str(first + number)
    os.environ["STUDIO_STATE_DIR"] = str(state)
    os.environ["STUDIO_LIVE_LOG_DIR"] = str(state / "live-log")
    os.environ["STUDIO_LIVE_LOG_SHARE"] = "1"
    # Prefect looks through all cancelled runs of a day, of which the tests make hundreds: a fifth of its server's time.
    os.environ.setdefault("PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS", "300")
    for name in ("STUDIO_POSTGRES_URL", "STUDIO_TRITONS", "TRITON_TARGETS"):
        os.environ.pop(name, None)
    from infra.stack_settings import StackSettings

    settings = StackSettings()
    os.environ.update(settings.local_environment)
    os.environ.pop("STUDIO_SCRATCH_DIR", None)
    from infra.environment import apply_environment, worker_environment

    apply_environment(worker_environment(settings), local_store=True)
    return state


def free_block(size: int) -> int:
    """The first of `size` ports in a row that are free, and free 10000 above too, below the ephemeral ones."""
    for _ in range(200):
        first = random.randrange(11_000, 21_000)  # noqa: S311
        if all(_is_free(port) and _is_free(port + 10_000) for port in range(first, first + size)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

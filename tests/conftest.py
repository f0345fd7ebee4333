"""One real stack for the whole session, on free ports, with a state folder of its own.

Ports and secrets are chosen here, before anything imports prefect, which reads its address once. The stack itself
starts with the first test that asks for it.
"""

import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STATE = Path(tempfile.mkdtemp(prefix="studio-test-")) / "state"
FIELDS = (
    *("SUPERVISOR", "POSTGRES", "PREFECT", "WORKER", "MLFLOW", "S3", "S3_MASTER", "S3_VOLUME", "S3_FILER"),
    *("TRITON_HTTP", "TRITON_GRPC", "TRITON_METRICS", "LIVE"),
)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_block(size: int) -> int:
    """The first of `size` ports in a row that are free, and free 10000 above too, below the ephemeral ones."""
    for _ in range(200):
        first = random.randrange(11_000, 21_000)  # noqa: S311
        if all(_is_free(port) and _is_free(port + 10_000) for port in range(first, first + size)):
            return first
    raise RuntimeError("no free ports")


def _choose_environment() -> None:
    first = _free_block(len(FIELDS))
    for number, field in enumerate(FIELDS):
        os.environ[f"STUDIO_{field}_PORT"] = str(first + number)
    os.environ["STUDIO_STATE_DIR"] = str(STATE)
    os.environ.pop("STUDIO_POSTGRES_URL", None)
    from infra.stack_settings import StackSettings

    settings = StackSettings()
    os.environ.update(settings.local_environment)
    os.environ.pop("STUDIO_SCRATCH_DIR", None)
    from infra.environment import apply_environment, worker_environment

    apply_environment(worker_environment(settings), local_store=True)


STATE.mkdir(parents=True)
_choose_environment()


def pytest_unconfigure() -> None:
    """Leave nothing behind, whether the stack was asked for or not."""
    shutil.rmtree(STATE.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Any]:
    """The settings of the running stack; it is stopped at the end, and must then have left no process behind."""
    from infra import stack as local_stack
    from infra import supervisord
    from infra.stack_settings import StackSettings
    from infra.temporary import temporary_folder

    settings = StackSettings.load()
    try:
        local_stack.up(settings)
        yield settings
    finally:
        local_stack.down(settings)
    left = supervisord.processes(settings)
    assert not left, f"left behind after the stack was stopped: {left}"
    ports = "|".join(str(getattr(settings, f"{field.lower()}_port") + 10_000) for field in FIELDS)
    names = re.compile(rf"seaweedfs-\w+-grpc-({ports})\.sock|yolo-studio-{settings.triton_http_port}-.*")
    files = [path for folder in ("/tmp", "/dev/shm") for path in Path(folder).iterdir() if names.fullmatch(path.name)]  # noqa: S108
    assert not [*files, *filter(Path.exists, [temporary_folder(settings)])]


@pytest.fixture(scope="session")
def untrained(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """Weights of a small detector that has learned nothing, as a .pt file."""
    from ultralytics.models import YOLO

    path = tmp_path_factory.mktemp("weights") / "untrained.pt"
    model: Any = YOLO("yolo11n.yaml")
    model.save(path)
    return path


@pytest.fixture(scope="session")
def served(stack: Any, untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ARG001
    """An untrained model, served by the stack's Triton."""
    from tasks.export.exporter import write_graph
    from tasks.parameters import ServingParams
    from tasks.serving import model_control, model_repository
    from tasks.serving.served_model import ServedModel

    graph = write_graph(untrained, tmp_path_factory.mktemp("graph"), 96)
    model = ServedModel(
        name="served",
        version=1,
        task="detect",
        image_size=96,
        class_names=tuple(f"class {number}" for number in range(80)),
        run_id="no-run",
        digest=model_repository.publish_version.fn("served", 1, graph),
    )
    model_control.load_versions.fn(model.name, [model], ServingParams(), 1)
    return model

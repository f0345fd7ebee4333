"""The lanes of the tests, and one real stack for the whole session: it starts with the first test that needs it."""

import gc
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import hypothesis
import pytest

from tests.stack_environment import PORTS, set_environment

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

    from tests.cvat import CvatStandIn
    from tests.infra.browser import OpenBrowser
    from tests.infra.receiver import Receiver

LANES = {"stack": "stack", "open_browser": "browser"}  # by the fixture that a test uses, the marker that it gets
STATE = pytest.StashKey[Path]()

hypothesis.settings.register_profile("fast", max_examples=20)  # of `make test-fast`; the others take 100


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before a test module imports prefect; `-m "not stack"` chooses no ports."""
    if "prefect" in sys.modules:
        raise pytest.UsageError("A conftest.py imports prefect, which reads its address once: do so in a fixture.")
    config.stash[STATE] = set_environment(stack="not stack" not in config.option.markexpr)
    gc.disable()  # while all tests and what they import come, which stay to the end


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind, whether the stack was started or not."""
    if STATE in config.stash:
        shutil.rmtree(config.stash[STATE].parent, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the fixtures that it uses, before `-m` chooses among the marks; files that take long go first.

    The quick ones are thousands, with which both workers of `make test` come to their end at the same time.
    """
    long = set[Path]()
    for item in items:
        for fixture, lane in LANES.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(lane)
        if any(item.iter_markers("stack")) or any(item.iter_markers("slow")):
            long.add(item.path)
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From now on the garbage collector looks through what comes, and not through what is there."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The settings of the running stack; it is stopped at the end, and must then have left no process behind.

    Label Studio is a part of it if a test uses fixture `label_studio`, Prometheus if one uses fixture `prometheus`, and
    it knows a CVAT if one uses fixture `cvat`.
    """
    from infra import stack as local_stack
    from infra import supervisord
    from infra.stack_settings import StackSettings
    from infra.temporary import temporary_folder
    from tests import label_studio
    from tests.clients import pause_schedules

    if any("label_studio" in getattr(item, "fixturenames", ()) for item in request.session.items):
        os.environ["STUDIO_REVIEW"] = str(label_studio.install())
    if any("prometheus" in getattr(item, "fixturenames", ()) for item in request.session.items):
        os.environ["STUDIO_METRICS"] = str(bool(shutil.which("prometheus") and shutil.which("prometheus-alertmanager")))
    if any("cvat" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("cvat")
    settings = StackSettings.load()
    try:
        local_stack.up(settings)
        pause_schedules(settings)
        yield settings
    finally:
        local_stack.down(settings)
    logs = b"".join(path.read_bytes() for path in (settings.state_dir / "logs").iterdir())
    assert [name for name, secret in settings.secrets.items() if secret.encode() in logs] == [], "secrets in the logs"
    left = supervisord.processes(settings)
    assert not left, f"left behind after the stack was stopped: {left}"
    ports = "|".join(str(getattr(settings, f"{field.lower()}_port") + 10_000) for field in PORTS)
    names = re.compile(rf"seaweedfs-\w+-grpc-({ports})\.sock|yolo-studio-{settings.triton_http_port}-.*")
    files = [path for folder in ("/tmp", "/dev/shm") for path in Path(folder).iterdir() if names.fullmatch(path.name)]  # noqa: S108
    assert not [*files, *filter(Path.exists, [temporary_folder(settings)])]


@pytest.fixture(scope="session")
def label_studio(stack: Any) -> "Iterator[httpx.Client]":
    """Label Studio's API, as a person uses it; skips the test where it cannot be installed."""
    from tests.label_studio import MISSING, reviewer

    if not stack.review:
        pytest.skip(MISSING)
    with reviewer(stack) as api:
        yield api


@pytest.fixture(scope="session")
def prometheus(stack: Any) -> "Iterator[httpx.Client]":
    """Prometheus' API with its password; skips the test where it is not installed."""
    import httpx

    from infra.stack_settings import USER

    if not stack.metrics:
        pytest.skip("needs Prometheus and Alertmanager: apt-get install prometheus prometheus-alertmanager")
    address, password = f"http://127.0.0.1:{stack.prometheus_port}", stack.secrets["prometheus"]
    with httpx.Client(base_url=address, auth=(USER, password), timeout=10) as api:
        yield api


@pytest.fixture(scope="session")
def cvat() -> "Iterator[CvatStandIn]":
    """A stand-in of CVAT, which the environment names."""
    from tests.cvat import TOKEN, run_cvat

    with run_cvat() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVAT_URL", server.address)
        patch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
        yield server


@pytest.fixture
def receiver(stack: Any) -> "Iterator[Receiver]":
    """What the stack tells from here on."""
    from tests.infra.receiver import open_receiver_of

    with open_receiver_of(stack) as opened:
        yield opened


@pytest.fixture
def client(stack: Any) -> "Iterator[SyncPrefectClient]":  # noqa: ARG001
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def flow() -> str:
    """The name of a flow that a test has alone."""
    return f"flow-{uuid4()}"


@pytest.fixture
def deployment(client: "SyncPrefectClient", flow: str) -> "Iterator[UUID]":
    """A deployment of the flow that no worker looks at."""
    made = client.create_deployment(client.create_flow_from_name(flow), "none")
    yield made
    client.delete_deployment(made)


@pytest.fixture(scope="session")
def open_browser() -> "OpenBrowser":
    """What starts a headless Chromium with a profile in a folder; the test is skipped if none is installed."""
    from tests.infra import browser

    if browser.CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    return browser.chromium


@pytest.fixture(scope="session")
def untrained(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """Weights of a small detector that has learned nothing, as a .pt file."""
    from ultralytics.models import YOLO

    path = tmp_path_factory.mktemp("weights") / "untrained.pt"
    model: Any = YOLO("yolo11n.yaml")
    model.save(path)
    return path


@pytest.fixture(scope="session")
def served(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ARG001
    """A model that finds nothing, served by the stack's Triton."""
    from tasks.parameters import ServingParams
    from tasks.serving import model_control, model_repository
    from tasks.serving.served_model import ServedModel
    from tests.tasks.serving.graphs import constant_graph, rows

    graph = tmp_path_factory.mktemp("graph") / "model.onnx"
    graph.write_bytes(constant_graph(96, {"detections": rows()}))
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

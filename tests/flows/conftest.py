"""A model that is served, with a version that waits for it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

# prefect is imported in the fixtures: it reads its address once, which pytest_configure sets after this file is read.


@pytest.fixture(scope="session")
def weights(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    from tests.flows.registered import make_weights

    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.flows.registered import make_sample

    return make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def graph(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tasks.export.exporter import write_graph
    from tests.flows.registered import SIZE

    exported: Path = write_graph(weights, tmp_path_factory.mktemp("graph"), SIZE)
    return exported


@contextlib.contextmanager
def served_model(weights: Path, sample: Path, graph: Path) -> Iterator[str]:
    """A new model with version 1, which is served, and version 2, which is the challenger."""
    from tasks.serving import model_control, model_repository
    from tests.flows.registered import register
    from tests.flows.steps import UNCOMPARED, deploy

    name = f"model-{uuid4().hex[:8]}"
    for _ in range(2):
        register(name, weights, sample)
    model_repository.publish_version.fn(name, 1, graph)
    assert deploy(name, 1, **UNCOMPARED).is_completed()
    yield name
    model_repository.ConfigFile(name).write(None)  # a Triton that is started again would load it
    model_control.unload.fn(name)


@pytest.fixture
def name(weights: Path, sample: Path, graph: Path) -> Iterator[str]:
    """Such a model that a test has alone."""
    with served_model(weights, sample, graph) as name:
        yield name


@pytest.fixture(scope="module")
def unchanged(weights: Path, sample: Path, graph: Path) -> Iterator[str]:
    """Such a model for the tests of a module after which version 1 is served as before."""
    with served_model(weights, sample, graph) as name:
        yield name


@pytest.fixture
def challenger(unchanged: str, weights: Path, sample: Path) -> int:
    """A version of that model that a test has alone."""
    from tests.flows.registered import register

    return register(unchanged, weights, sample)


@pytest.fixture
def exported(name: str, graph: Path) -> str:
    """The model, with the graph of version 2 in the repository, too."""
    from tasks.serving import model_repository

    model_repository.publish_version.fn(name, 2, graph)
    return name

"""An archive, and a model that is served, with the next version of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from infra.stack_settings import StackSettings
    from tests.chaos.steps import Workers

# prefect is imported in the fixtures: it reads its address once, which pytest_configure sets after this file is read.


@pytest.fixture(scope="session")
def weights(stack: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:  # noqa: ARG001
    """Weights, what their training kept of its validation split, and their graph."""
    from tasks.export.exporter import write_graph
    from tests.flows.registered import SIZE, make_sample, make_weights

    folder = tmp_path_factory.mktemp("weights")
    found = make_weights(folder)
    return found, make_sample(folder / "sample"), write_graph(found, folder / "graph", SIZE)


@pytest.fixture(scope="session")
def archive(stack: object, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: ARG001
    """A small valid archive in bucket datasets."""
    import boto3

    from infra import demo_data

    plan = demo_data.ArchivePlan(name="outages.zip", classes=("circle", "square"), train=16, val=6, seed=1)
    path = demo_data.write_archive(plan, tmp_path_factory.mktemp("archive"))
    boto3.client("s3").upload_file(str(path), "datasets", plan.name)
    return plan.name


@pytest.fixture(scope="session")
def media(stack: object) -> str:  # noqa: ARG001
    """Images in bucket media, under this prefix."""
    import boto3
    import cv2

    from tests.chaos.steps import IMAGES, MEDIA
    from tests.flows.registered import pictures

    store, bodies = boto3.client("s3"), [cv2.imencode(".jpg", each)[1].tobytes() for each in pictures(8)]
    for number in range(IMAGES):
        store.put_object(Bucket="media", Key=f"{MEDIA}{number:05d}.jpg", Body=bodies[number % len(bodies)])
    return MEDIA


@pytest.fixture
def model(weights: tuple[Path, Path, Path]) -> str:
    """A model with version 1, which is served, and version 2, which is the challenger; both are in the repository."""
    from tasks.serving import model_repository
    from tests.flows.registered import register
    from tests.flows.steps import UNCOMPARED, deploy

    name = f"chaos-{uuid4().hex[:8]}"
    for version in (1, 2):
        register(name, *weights[:2])
        model_repository.publish_version.fn(name, version, weights[2])
    assert deploy(name, 1, **UNCOMPARED).is_completed()
    return name


@pytest.fixture
def workers(stack: "StackSettings") -> "Iterator[Workers]":
    """Workers of the test in the place of the stack's."""
    from tests.chaos.steps import Workers, without_workers

    with without_workers(stack):
        found = Workers(stack)
        yield found
        for worker in found.started:
            if worker.poll() is None:
                found.kill(worker)

"""`make up` drops what killed rollouts left aside, and nothing that is in use."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import boto3
import pytest
from prefect.logging import disable_run_logger

from infra import leftovers, triton
from infra.services import s3_client
from infra.stack_settings import StackSettings
from tasks.parameters import ServingParams
from tasks.serving import model_control, model_repository
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_names import candidate_name, kept_name
from tasks.storage import leases, locks


@pytest.fixture
def model(served: ServedModel) -> Iterator[ServedModel]:
    """A model of which a candidate is loaded, and a version kept; nothing is served under its own name."""
    model = replace(served, name=f"model-{uuid4().hex[:8]}")
    for file in model_repository.VERSION_FILES:
        source, key = f"models/{served.name}/{served.version}/{file}", f"{model.name}/{model.version}/{file}"
        boto3.client("s3").copy_object(Bucket="models", Key=key, CopySource=source)
    for name in (candidate_name(model.name), kept_name(model.name, model.version)):
        model_repository.AsideVersions(model.name).copy(model.version, name)
        model_control.load_aside.fn(replace(model, aside=name), ServingParams())
    with disable_run_logger():
        yield model


def test_what_nobody_uses_is_dropped(stack: StackSettings, model: ServedModel) -> None:
    client, asides = s3_client(stack), model_repository.AsideVersions(model.name)
    before = asides.names()
    assert before == [kept_name(model.name, model.version), candidate_name(model.name)]
    assert not any(name in triton.deployed_models() for name in before)
    with locks.serving_lock(model.name, "deploying", lambda _: False):
        assert leftovers.remove_leftovers(client) == []
    assert asides.names() == before
    with leases.hold_lease(model.name, model.version, "one"):
        assert leftovers.remove_leftovers(client) == [model.name]
        assert asides.names() == before[:1]
        assert model_control.list_served_versions(before[0]) != []
    assert leftovers.remove_leftovers(client) == [model.name]
    assert asides.names() == []
    assert [model_control.list_served_versions(name) for name in before] == [[], []]

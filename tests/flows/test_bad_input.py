"""Bad input and services that are down: a flow ends with a message that says what to do, and good work stays."""

import io
import re
import zipfile
from collections.abc import Callable

import boto3
import pytest
from prefect.client.schemas.objects import State

from flows.deploy_model import deploy_model
from flows.run_inference import run_inference
from flows.train_model import train_model
from flows.validate_dataset import validate_dataset
from infra.stack_settings import StackSettings
from tasks.storage import steps as storage_steps
from tasks.tracking import registry
from tests.clients import prefect_api
from tests.tasks.dataset.archives import good, zipped

pytestmark = pytest.mark.usefixtures("stack")


def put(bucket: str, key: str, body: bytes) -> str:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    return key


def ended(flow: Callable[..., State], **parameters: object) -> State:
    return flow(**parameters, return_state=True)


def without_yaml() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images/train/a.txt", "nothing")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "name", "code"),
    [
        (zipped(good()), "Valid with warnings", "class-few"),
        (b"no zip at all", "Invalid", "archive-unreadable"),
        (without_yaml(), "Invalid", "yaml-missing"),
        (zipped(good())[:-40], "Invalid", "archive-unreadable"),
    ],
)
def test_the_verdict_is_the_name_of_the_state(body: bytes, name: str, code: str) -> None:
    state = ended(validate_dataset, archive=put("datasets", "verdict.zip", body))
    assert state.name == name
    assert code in str(state.message)


def test_an_archive_that_is_missing_is_named_with_what_there_is() -> None:
    put("datasets", "there.zip", zipped(good()))
    state = ended(validate_dataset, archive="missing.zip")
    assert state.is_failed()
    assert "s3://datasets/missing.zip" in str(state.message)
    assert "studio upload" in str(state.message)


@pytest.mark.parametrize("archive", ["http://example.com/a.zip", "s3://no-such-bucket-here/a.zip", "../../etc/passwd"])
def test_an_address_of_another_kind_is_refused(archive: str) -> None:
    state = ended(validate_dataset, archive=archive)
    assert state.is_failed()
    assert "xpected" in str(state.message)


def test_training_refuses_an_invalid_archive_before_it_begins() -> None:
    archives = [put("datasets", "fine.zip", zipped(good())), put("datasets", "bad.zip", without_yaml())]
    state = ended(train_model, model_name="never", archives=archives, base_model="yolo11n.yaml")
    assert state.is_failed()
    assert "bad.zip" in str(state.message)
    assert "yaml-missing" in str(state.message)


@pytest.mark.parametrize(
    "base_model", ["/etc/passwd", "s3://media/x.pt", "../x.pt", "http://example.com/x.pt", "evil.pkl"]
)
def test_training_loads_no_weights_from_unknown_places(base_model: str) -> None:
    archives = [put("datasets", "fine.zip", zipped(good()))]
    state = ended(train_model, model_name="never", archives=archives, base_model=base_model)
    assert state.is_failed()
    assert re.search(r"which is none of them|expected (a key in bucket 'base-models'|the name)", str(state.message))


def test_weights_that_are_no_weights_end_the_training_with_a_reason() -> None:
    archives = [put("datasets", "fine.zip", zipped(good()))]
    put("base-models", "junk.pt", b"not a checkpoint")
    state = ended(train_model, model_name="never", archives=archives, base_model="junk.pt")
    assert state.is_failed()
    assert "junk.pt" in str(state.message)


def test_a_misspelled_class_is_refused() -> None:
    archives = [put("datasets", "fine.zip", zipped(good()))]
    merge = {"classes": {"no such class": "x"}}
    state = ended(train_model, model_name="never", archives=archives, base_model="yolo11n.yaml", merge=merge)
    assert state.is_failed()
    assert "no such class" in str(state.message)


def test_a_model_that_does_not_exist_cannot_be_deployed() -> None:
    state = ended(deploy_model, model_name="unheard-of")
    assert state.is_failed()
    assert "unheard-of" in str(state.message)
    assert "train-model/gpu" in str(state.message)


def test_a_model_that_does_not_exist_cannot_infer() -> None:
    put("media", "x.jpg", b"")
    state = ended(run_inference, model_name="unheard-of", inputs=["x.jpg"])
    assert state.is_failed()
    assert "unheard-of" in str(state.message)


@pytest.mark.parametrize(
    ("variable", "address"),
    [("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_SECRET_ACCESS_KEY", "wrong")],
)
def test_an_object_store_that_is_down_or_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    monkeypatch.setenv(variable, address)
    monkeypatch.setattr(storage_steps.fetch_archive, "retries", 0)
    state = ended(validate_dataset, archive="x.zip")
    assert state.is_failed()
    assert "object store" in str(state.message)
    assert "studio status" in str(state.message)


def test_a_registry_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(registry.find_version, "retries", 0)
    state = ended(deploy_model, model_name="x", version=1)
    assert state.is_failed()
    assert "http://127.0.0.1:9" in str(state.message)


def test_bad_parameters_are_refused_before_a_run_exists(stack: StackSettings) -> None:
    """The API knows the constraints: it answers 409 and makes no run."""
    good_ones = {"model_name": "x", "archives": ["a.zip"]}
    bad_ones: list[dict[str, object]] = [
        {"model_name": "../x"},
        {"model_name": "shapes\n"},
        {"model_name": "\0"},
        {"archives": ["a.zip\0"]},
        {"archives": []},
        {"base_model": ""},
        {"training": {"epochs": 0}},
        {"training": {"unknown": 1}},
        {"training": {"device": "cuda; rm"}},
    ]
    with prefect_api(stack) as api:
        deployment = api.get("/deployments/name/train-model/gpu").raise_for_status().json()
        for bad in bad_ones:
            answer = api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": good_ones | bad})
            assert answer.status_code == 409, (bad, answer.text)

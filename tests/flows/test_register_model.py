"""Weights that were trained elsewhere become a version, which is deployed like any other."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.register_model import register_model
from infra import demo_data
from tasks.catalogue.lineage import trace
from tasks.catalogue.models import read_version
from tasks.evaluation.falls import NOTHING_FELL
from tasks.parameters import PromotionPolicy
from tasks.tracking import registered_models, registered_versions, registry
from tests.benchmarks.archives import convert
from tests.emitted import emitted
from tests.flows.registered import SIZE, make_foreign_weights
from tests.flows.steps import deploy
from tests.tasks.weights.hostile import kinds

pytestmark = pytest.mark.usefixtures("stack")
ALIKE: dict[str, Any] = {
    "parity": {"min_agreement": 0.9, "min_weak_agreement": 0.9}
}  # random heads score many boxes alike
ANY = PromotionPolicy(min_map50=0)


def put(bucket: str, body: bytes, ending: str) -> str:
    key = f"{uuid4().hex[:8]}{ending}"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    return key


def outlined(archive: bytes) -> bytes:
    """The same archive with outlines in place of boxes."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".txt"):
                content = "\n".join(convert("segment", line) for line in content.decode().splitlines()).encode()
            target.writestr(name, content)
    return made.getvalue()


def registered(name: str, weights: str, **parameters: object) -> State:
    return register_model(model_name=name, weights=weights, **parameters, return_state=True)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_foreign_weights(tmp_path_factory.mktemp("weights"))


@pytest.mark.heavy
def test_measured_weights_become_the_challenger_and_are_deployed(body: bytes, tmp_path: Path) -> None:
    name, weights = f"imported-{uuid4().hex[:8]}", put("base-models", body, ".pt")
    classes = demo_data.CLASSES[::-1]
    plan = demo_data.ArchivePlan(name="s.zip", classes=classes, train=8, val=8, seed=1)
    drawn = demo_data.write_archive(plan, tmp_path).read_bytes()
    archive = put("datasets", drawn, ".zip")
    state = registered(name, weights, archive=archive, promotion=ANY)
    assert state.is_completed(), state.message
    version = registry.find_version.fn(name, registered_models.CHALLENGER)
    assert (version.task, version.image_size, version.class_names) == ("detect", SIZE, demo_data.CLASSES)
    tags = registry.read_tags.fn(name, version.version)
    assert (tags["lineage"], tags["base_model"]) == ("imported", weights)
    assert tags["base_model_sha256"] == hashlib.sha256(body).hexdigest()
    assert "mAP50-95" in json.loads(tags["metrics"])
    assert read_version(f"{name}/1").imported_from == weights
    told = trace(f"{name}/1").to_text()
    assert f"imported by flow run {state.state_details.flow_run_id}" in told
    assert f"from {weights} (SHA-256 {tags['base_model_sha256']})" in told
    assert f"measured on {archive}" in told
    payload = emitted("model.imported", f"version:{name}/1")["payload"]
    assert payload["metrics"].keys() >= {"mAP50", "mAP50-95"}
    assert (payload["weights"], payload["archives"]) == (weights, [archive])
    assert emitted("model.promoted", f"version:{name}/1")
    deployed = deploy(name, **ALIKE)
    assert deployed.is_completed(), deployed.message
    assert registry.read_tags.fn(name, 1)["parity"] == "passed"
    again = registered(name, weights, archive=put("datasets", outlined(drawn), ".zip"), promotion=ANY)
    assert "version 2: refused" in str(again.message)
    assert NOTHING_FELL in str(again.message)
    version = registry.find_version.fn(name, 2)
    assert "refusal.html" in {each.path for each in MlflowClient().list_artifacts(version.run_id)}
    address = emitted("model.refused", f"version:{name}/2")["payload"]["falls_page"]
    assert "Why version 2 was refused" in httpx.get(address, timeout=10).text


@pytest.mark.heavy
def test_weights_without_an_archive_are_deployed_by_their_number(body: bytes) -> None:
    name = f"imported-{uuid4().hex[:8]}"
    state = registered(name, put("base-models", body, ".pt"))
    assert "imported, and not measured" in str(state.message)
    found = registered_versions.find_model(name)
    assert found
    assert found.aliases == {}
    deployed = deploy(name, 1, **ALIKE)
    assert deployed.is_completed(), deployed.message


def test_nothing_that_cannot_be_served_is_registered(tmp_path: Path) -> None:
    name, mark = f"imported-{uuid4().hex[:8]}", tmp_path / "mark"
    evil = put("base-models", kinds(mark)["zip"], ".pt")
    refused = {
        evil: "loading it could run any code",
        put("base-models", b"", ".zip"): "Expected Ultralytics weights",
        "absent.pt": "which is none of them",
        "yolo11n.yaml": "which is none of them",
        "rtdetr-l.pt": "RT-DETR",
    }
    for weights, reason in refused.items():
        state = registered(name, weights)
        assert state.is_failed()
        assert reason in str(state.message)
    dropped = registered(name, "absent.pt", promotion=ANY)
    assert "Name the archive to measure on" in str(dropped.message)
    assert registered_versions.find_model(name) is None
    assert not mark.exists()

"""evaluate-model, through its deployment's function, on a real stack."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.evaluate_model import evaluate_model
from infra import demo_data
from tasks.parameters import InferenceParams
from tasks.serving import model_control
from tasks.tracking import canaries, evaluation_runs
from tasks.tracking.mlflow_client import TrackingError
from tests.flows.registered import register
from tests.flows.steps import UNCOMPARED, deploy

PLAN = demo_data.ArchivePlan(name="evaluated.zip", classes=("circle", "square", "triangle"), train=6, val=8, seed=3)


@pytest.fixture(scope="module")
def archive(stack: object, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: ARG001
    path = demo_data.write_archive(PLAN, tmp_path_factory.mktemp("archive"))
    boto3.client("s3").upload_file(str(path), "datasets", PLAN.name)
    return PLAN.name


def test_an_evaluation_leaves_its_page_its_figures_and_thresholds(archive: str, weights: Path) -> None:
    name = f"model-{uuid4().hex[:8]}"
    register(name, weights, None)
    MlflowClient().set_registered_model_alias(name, "champion", "1")
    params: dict[str, Any] = {"evaluation": {"worst": 3, "max_misses": {"circle": 0.05}, "corrupted_images": 2}}
    state: State = evaluate_model(name, archive, return_state=True, **params)
    assert state.is_completed(), state.message
    assert f"{name} on {archive}, split val: mAP50-95 version 1" in str(state.message)
    run = str(state.state_details.flow_run_id)
    stored = boto3.client("s3").get_object(Bucket="runs", Key=f"{run}/evaluation.json")["Body"].read()
    facts = json.loads(stored)
    (judged,) = facts["versions"]
    assert (facts["images"], judged["version"], judged["promises"]["circle"]["threshold"]) == (8, 1, None)
    assert judged["robustness"]["images"] == 2
    assert len(judged["robustness"]["corruptions"]) == 45
    version = MlflowClient().get_model_version(name, "1")
    source = json.loads(version.tags["thresholds_from"])
    assert (list(source["archives"]), source["split"], source["flow_run_id"]) == ([archive], "val", run)
    tracked = MlflowClient().get_run(str(version.run_id))
    score = judged["metrics"]["mAP50-95"]
    assert tracked.data.metrics[f"evaluation/{archive}/val/mAP50-95"] == pytest.approx(score)
    assert {each.path for each in MlflowClient().list_artifacts(str(version.run_id))} >= {
        "evaluations",
        "thresholds.json",
        "validation-matching.parquet",
    }
    thresholds = json.loads(version.tags["thresholds"])
    pinned = canaries.pin_version(name, run, InferenceParams(confidence="auto", class_confidence={"circle": 0.9}))
    assert pinned.inference.class_confidence == thresholds | {"circle": 0.9}
    deployed = deploy(name, **UNCOMPARED)
    assert deployed.is_completed(), deployed.message
    assert [each.thresholds for each in model_control.list_served_versions(name)] == [thresholds]
    MlflowClient().log_dict(str(version.run_id), {"thresholds": [1]}, "thresholds.json")
    with pytest.raises(TrackingError, match="Run evaluate-model on the version again"):
        evaluation_runs.read_thresholds(name, 1)
    predicted = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{run}/predictions/version-1-")["Contents"]
    assert len(predicted) == 1


def test_a_model_without_a_champion_or_thresholds_says_so(archive: str, weights: Path) -> None:
    name = f"model-{uuid4().hex[:8]}"
    register(name, weights, None)
    state: State = evaluate_model(name, archive, return_state=True)
    assert state.is_failed()
    assert f"Model '{name}' has no champion" in str(state.message)
    MlflowClient().set_registered_model_alias(name, "champion", "1")
    with pytest.raises(TrackingError, match=r"Expected thresholds with .* version 1 for inference.confidence auto"):
        canaries.pin_version(name, "run", InferenceParams(confidence="auto"))

"""find-label-errors, through its deployment's function, on a real stack."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.find_label_errors import find_label_errors
from infra import demo_data
from tasks.parameters import TrainingParams
from tests.flows.registered import SIZE, register

PLAN = demo_data.ArchivePlan(name="labelled.zip", classes=("circle", "square"), train=8, val=4, seed=5)


def put_archive(folder: Path) -> str:
    """Put the archive into bucket datasets; returns its digest."""
    path = demo_data.write_archive(PLAN, folder)
    boto3.client("s3").upload_file(str(path), "datasets", PLAN.name)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(state: State, name: str) -> bytes:
    key = f"{state.state_details.flow_run_id}/{name}"
    return bytes(boto3.client("s3").get_object(Bucket="runs", Key=key)["Body"].read())


def test_labels_that_were_learnt_are_judged_by_models_that_have_not_seen_them(weights: Path, tmp_path: Path) -> None:
    digest = put_archive(tmp_path)
    name = f"model-{uuid4().hex[:8]}"
    register(name, weights, None)
    mlflow = MlflowClient()
    mlflow.set_registered_model_alias(name, "champion", "1")
    params: dict[str, Any] = {"label_errors": {"folds": 2, "min_score": 0, "most": 5}}
    version = mlflow.get_model_version(name, "1")

    unseen: State = find_label_errors(name, PLAN.name, return_state=True, **params)
    assert unseen.is_completed(), unseen.message
    assert json.loads(kept(unseen, "label-errors.json"))["out_of_fold"] is False

    mlflow.set_model_version_tag(name, "1", "archives", json.dumps({PLAN.name: digest}))
    unknown: State = find_label_errors(name, PLAN.name, return_state=True, **params)
    assert unknown.is_failed()
    assert "Train it anew, or set label_errors.out_of_fold to false." in str(unknown.message)

    mlflow.set_model_version_tag(name, "1", "base_model", "yolo11n.yaml")
    training = TrainingParams(epochs=1, imgsz=SIZE, batch=8, device="cpu")
    mlflow.log_dict(str(version.run_id), {"training": training.model_dump()}, "policies.json")
    state: State = find_label_errors(name, PLAN.name, return_state=True, **params)
    assert state.is_completed(), state.message
    facts = json.loads(kept(state, "label-errors.json"))
    assert (facts["out_of_fold"], facts["version"], facts["archives"]) == (True, 1, {PLAN.name: digest})
    assert b"judged by 2 models like" in kept(state, "label-errors.html")
    with zipfile.ZipFile(io.BytesIO(kept(state, "label-errors.zip"))) as review:
        shown = json.loads(review.read("provenance.json"))
    assert shown["label_errors"] == facts["label_errors"][:5]
    with zipfile.ZipFile(demo_data.write_archive(PLAN, tmp_path)) as archive:
        assert {error["image"] for error in facts["label_errors"]} <= {*archive.namelist()}
    stored = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{state.state_details.flow_run_id}/")["Contents"]
    folders = {each["Key"].split("/")[1] for each in stored}
    assert {"folds", "predictions"} <= folders

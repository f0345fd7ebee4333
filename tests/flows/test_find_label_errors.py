"""find-label-errors, through its deployment's function, on a real stack."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.find_label_errors import find_label_errors
from infra import demo_data
from tasks.parameters import TrainingParams
from tests.flows.registered import SIZE, mark_trained, register

PLAN = demo_data.ArchivePlan(name="labelled.zip", classes=("circle", "square"), train=8, val=4, seed=5)


def kept(state: State, name: str) -> bytes:
    key = f"{state.state_details.flow_run_id}/{name}"
    return bytes(boto3.client("s3").get_object(Bucket="runs", Key=key)["Body"].read())


@pytest.mark.heavy
def test_labels_that_were_learnt_are_judged_by_models_that_have_not_seen_them(weights: Path, tmp_path: Path) -> None:
    archive = demo_data.write_archive(PLAN, tmp_path)
    boto3.client("s3").upload_file(str(archive), "datasets", PLAN.name)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    name = f"model-{uuid4().hex[:8]}"
    register(name, weights, None)
    mlflow = MlflowClient()
    mlflow.set_registered_model_alias(name, "champion", "1")
    params: dict[str, Any] = {"label_errors": {"folds": 2, "min_score": 0, "most": 5}}

    unseen: State = find_label_errors(name, PLAN.name, return_state=True, **params)
    assert unseen.is_completed(), unseen.message
    assert json.loads(kept(unseen, "label-errors.json"))["out_of_fold"] is False

    mlflow.set_model_version_tag(name, "1", "archives", json.dumps({PLAN.name: digest}))
    unknown: State = find_label_errors(name, PLAN.name, return_state=True, **params)
    assert unknown.is_failed()
    assert "Train it anew, or set label_errors.out_of_fold to never." in str(unknown.message)

    mlflow.set_model_version_tag(name, "1", "archives", json.dumps({"before.zip": "other bytes"}))
    mark_trained(name, archive, TrainingParams(epochs=1, imgsz=SIZE, batch=8, device="cpu"))
    state: State = find_label_errors(name, PLAN.name, return_state=True, **params)
    assert state.is_completed(), state.message
    facts = json.loads(kept(state, "label-errors.json"))
    assert (facts["out_of_fold"], facts["version"], facts["archives"]) == (True, 1, {PLAN.name: digest})
    html = kept(state, "label-errors.html")
    assert b"judged by 2 models like" in html
    assert b"Out of fold, because version 1 has seen 12 of the 12 images of" in html
    with zipfile.ZipFile(io.BytesIO(kept(state, "label-errors.zip"))) as review:
        shown = json.loads(review.read("provenance.json"))
    assert shown["label_errors"] == facts["label_errors"][:5]
    with zipfile.ZipFile(archive) as source:
        assert {error["image"] for error in facts["label_errors"]} <= {*source.namelist()}
    stored = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{state.state_details.flow_run_id}/")["Contents"]
    folders = {each["Key"].split("/")[1] for each in stored}
    assert {"folds", "predictions"} <= folders

"""monitor-model, on what a real run of inference and live requests have left."""

import io
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
import cv2
import numpy as np
import pytest
from mlflow import MlflowClient
from prefect import tags
from prefect.client.schemas.objects import State

from flows.monitor_model import monitor_model
from flows.run_inference import run_inference
from tasks.inference.image_lists import OF_REVIEW
from tasks.monitoring.reference import REFERENCE
from tasks.orchestration import events
from tasks.storage.object_store import ObjectStore
from tasks.tracked_monitoring import publication
from tasks.tracking.mlflow_client import MONITORING, search_runs
from tasks.tracking.version_pages import pages_of
from tests.flows.registered import pictures
from tests.model_repository import live_logs
from tests.model_repository.test_predict import curl
from tests.waiting import eventually

IMAGES = 16
PARAMS: dict[str, Any] = {"min_images": 10, "images": 50, "device": "cpu"}


def put(prefix: str, brightness: float) -> str:
    store = boto3.client("s3")
    for number, picture in enumerate(pictures(IMAGES)):
        dark = (picture[..., ::-1] * brightness).astype(np.uint8)
        body = cv2.imencode(".jpg", dark)[1].tobytes()
        store.put_object(Bucket="media", Key=f"{prefix}/{number:02d}.jpg", Body=body)
    return f"{prefix}/"


def ask_live(model: str, brightness: float) -> Path:
    """Send the pictures to the served model, wait until they are in the live log, and return its newest file."""
    folder = Path(os.environ["STUDIO_LIVE_LOG_DIR"])

    def logged() -> int:
        return sum(line["model"] == model for line in live_logs.lines(folder))

    expected = logged() + IMAGES if folder.exists() else IMAGES
    for picture in pictures(IMAGES):
        dark = (picture[..., ::-1] * brightness).astype(np.uint8)
        body = cv2.imencode(".jpg", dark)[1].tobytes()
        assert curl(body, model=model, confidence="0.9")[0] == 200
    eventually(lambda: folder.exists() and logged() == expected, f"{expected} answers")
    return max(folder.glob("*.jsonl"))


def figures(state: State) -> dict[str, Any]:
    key = f"{state.state_details.flow_run_id}/monitoring.json"
    body = boto3.client("s3").get_object(Bucket="runs", Key=key)["Body"].read()
    found: dict[str, Any] = json.loads(io.BytesIO(body).read())
    return found


@pytest.mark.heavy
def test_darkness_is_told_once_with_pictures(name: str, monkeypatch: Any) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit", lambda kind, *_, payload, **__: told.append({"kind": kind, **payload}))
    state: State = monitor_model(name, monitoring=PARAMS, return_state=True)
    assert state.name == "Too few images"
    assert "has answered too few images: 0 of 10 images in 7 days" in str(state.message)

    inference = {"confidence": 0.01, "annotate": False}
    run: State = run_inference(name, [put(name, 0.4)], inference=inference, return_state=True)
    assert run.is_completed(), run.message
    told.clear()
    state = monitor_model(name, monitoring=PARAMS, return_state=True)
    assert state.is_completed(), state.message
    assert state.name == "Drifted"
    facts = figures(state)
    assert facts["images"] == IMAGES
    assert "brightness" in facts["drifted"]
    assert 0 <= facts["estimate"]["low"] <= facts["estimate"]["score"] <= facts["estimate"]["high"] <= 1
    assert [(each["kind"], each["version"]) for each in told] == [(events.MODEL_DRIFTED, 1)]
    page = boto3.client("s3").get_object(Bucket="runs", Key=f"{state.state_details.flow_run_id}/monitoring.html")
    assert page["Body"].read().count(b"<figure>") >= 1
    kept = f"{state.state_details.flow_run_id}/embeddings/"
    assert {PurePosixPath(key).suffix for key in ObjectStore("runs").keys(kept)} == {".npy", ".zip"}

    mlflow = MlflowClient()
    source = str(mlflow.get_model_version(name, "1").run_id)
    assert REFERENCE in {each.path for each in mlflow.list_artifacts(source)}
    again: State = monitor_model(name, monitoring=PARAMS, return_state=True)
    assert again.name == "Drifted"
    (kept_page,) = pages_of(mlflow.get_model_version(name, "1").tags)
    assert (kept_page.name, kept_page.run) == (publication.PAGE, str(again.state_details.flow_run_id))
    assert len(told) == 1
    (tracked,) = search_runs(MONITORING, f"tags.model = '{name}'", [])
    assert len(mlflow.get_metric_history(tracked.info.run_id, "PSI of brightness")) == 2


def test_images_that_people_are_to_correct_are_not_what_the_model_gets_to_see(name: str) -> None:
    inputs, inference = [put(name, 0.4)], {"confidence": 0.01, "annotate": False}
    with tags(OF_REVIEW):  # as review-images starts it
        run: State = run_inference(name, inputs, inference=inference, return_state=True)
    assert run.is_completed(), run.message
    state: State = monitor_model(name, monitoring=PARAMS, return_state=True)
    assert state.name == "Too few images", state.message
    assert (
        "has answered too few images: 0 of 10 images in 7 days. Runs of inference that are left out: 1. Their"
        in str(state.message)
    )


@pytest.mark.heavy
def test_live_requests_are_monitored_and_their_darkness_is_told(name: str) -> None:
    """Without a run of inference, and whatever confidence the requests ask for."""
    with ask_live(name, 1.0).open("ab") as file:
        file.write(b'{"time": 17')  # as a process leaves it that is killed
    state: State = monitor_model(name, monitoring=PARAMS, return_state=True)
    assert state.is_completed(), state.message
    facts = figures(state)
    assert (facts["images"], facts["live"], facts["runs"]) == (IMAGES, IMAGES, 0)
    assert facts["drifted"] == []
    tested = {each["trait"] for each in facts["tests"] if each["q_value"] is not None}
    assert {"brightness", "contrast", "sharpness", "image size", "objects an image", "classes"} <= tested
    assert any("cut off, damaged or being written: 1." in each for each in facts["remarks"])

    ask_live(name, 0.4)
    inference = {"confidence": 0.25, "annotate": False}
    run: State = run_inference(name, [put(name, 0.4)], inference=inference, return_state=True)
    assert run.is_completed(), run.message
    state = monitor_model(name, monitoring=PARAMS, return_state=True)
    assert state.name == "Drifted", state.message
    facts = figures(state)
    assert (facts["images"], facts["live"], facts["runs"]) == (3 * IMAGES, 2 * IMAGES, 1)
    assert "brightness" in facts["drifted"]

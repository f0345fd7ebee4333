"""select-images, through its deployment's function, on a real stack."""

import json
import zipfile
from pathlib import Path
from uuid import uuid4

import boto3
import cv2
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.select_images import select_images
from infra import demo_data
from tasks.inference.image_lists import ImageList, find_image_list, find_predictions_run, write_image_list
from tasks.inference.media_inputs import list_media_sources
from tasks.parameters import SelectionParams, TrainingParams
from tasks.storage.object_store import ObjectStore
from tests.emitted import emitted
from tests.flows.registered import SIZE, mark_trained, pictures, register

PLAN = demo_data.ArchivePlan(name="learnt.zip", classes=("circle", "square"), train=8, val=4, seed=5)


@pytest.mark.heavy
def test_a_version_chooses_images_that_it_has_not_learnt_for_the_next_run(weights: Path, tmp_path: Path) -> None:
    s3, name = boto3.client("s3"), f"model-{uuid4().hex[:8]}"
    archive = demo_data.write_archive(PLAN, tmp_path)
    s3.upload_file(str(archive), "datasets", PLAN.name)
    register(name, weights, None)
    assert register(name, weights, None) == 2  # the challenger, which has the same weights
    MlflowClient().set_registered_model_alias(name, "champion", "1")
    MlflowClient().set_model_version_tag(name, "1", "archives", json.dumps({PLAN.name: "aa"}))
    mark_trained(name, archive, TrainingParams(epochs=1, imgsz=SIZE, batch=8, device="cpu"))
    for number, picture in enumerate(pictures(6)):
        s3.put_object(Bucket="media", Key=f"{name}/{number}.jpg", Body=cv2.imencode(".jpg", picture)[1].tobytes())
    with zipfile.ZipFile(archive) as file:
        learnt = next(entry for entry in file.namelist() if entry.endswith(".jpg"))
        s3.put_object(Bucket="media", Key=f"{name}/learnt.jpg", Body=file.read(learnt))
    s3.put_object(Bucket="media", Key=f"{name}/notes.txt", Body=b"text")

    selection = SelectionParams(images=4, learnt_images=5, device="cpu")
    state: State = select_images(name, [f"{name}/"], selection, return_state=True)
    assert state.is_completed(), state.message
    assert "left out: 1 learnt already, 1 failed" in str(state.message)
    run = str(state.state_details.flow_run_id)
    image_list = find_image_list(run)
    assert image_list is not None
    listed = image_list.images
    facts = json.loads(s3.get_object(Bucket="runs", Key=f"{run}/selection.json")["Body"].read())
    assert [(each.source.name, each.reason) for each in listed] == [
        (each["image"], each["reason"]) for each in facts["chosen"]
    ]
    assert {each["strategy"] for each in facts["chosen"]} >= {"uncertainty", "diversity"}
    page = s3.get_object(Bucket="runs", Key=f"{run}/selection.html")["Body"].read()
    assert page.count(b"<img ") == len(listed) == 4
    assert page.count(b'<circle class="learnt"') == 5
    assert facts["remarks"] == []  # the two versions agree, and nothing else was missed
    assert emitted("images.selected", f"version:{name}/1")["payload"]["images"] == 4
    assert list(list_media_sources([f"run:{run}"])) == [each.source for each in listed]
    assert image_list.predictions_run is None
    kept = {
        each["Key"].rpartition(".")[2]
        for each in s3.list_objects_v2(Bucket="runs", Prefix=f"{run}/selection/")["Contents"]
    }
    assert kept == {"zip", "npy"}

    again: State = select_images(name, [f"{name}/"], selection, return_state=True)
    assert again.message == str(state.message).replace(run, str(again.state_details.flow_run_id))
    looked_at = f"{again.state_details.flow_run_id}/selection/"
    found = [each["Key"] for each in s3.list_objects_v2(Bucket="runs", Prefix=looked_at)["Contents"]]
    assert not any("-1-views-" in key for key in found if "version-1-" in key)  # the images that it has learnt
    assert len(list(ObjectStore("runs").keys(f"learnt-samples/{name}/1/"))) == 1

    labelling, inference = str(uuid4()), str(uuid4())
    write_image_list(labelling, ImageList(images=listed, predictions_run=inference))
    of_a_run: State = select_images(name, [f"run:{labelling}"], selection, return_state=True)
    assert find_predictions_run(str(of_a_run.state_details.flow_run_id)) == inference, "a review predicts nothing anew"

"""label-images on a served model: what it is sure of becomes an archive, and nothing is predicted twice."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import cv2
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.label_images import label_images
from infra.demo_data import CLASSES, ArchivePlan, write_archive
from tasks.dataset.label_origins import LABEL_ORIGINS, unpack_label_origins
from tasks.inference.image_lists import find_image_list
from tasks.parameters import LabellingParams
from tasks.serving import model_control
from tasks.tracked_evaluation.validation import keep_validation
from tasks.tracking import registry
from tests.flows.registered import pictures
from tests.tasks.evaluation.test_validation_matching import all_right

pytestmark = pytest.mark.usefixtures("stack")
TAKEN, DROPPED = 0.28, 0.26


def label(model: str, inputs: list[str], **labelling: Any) -> State:
    """Label into an archive named after the first input."""
    chosen = {"take_from": dict.fromkeys(CLASSES, TAKEN), "drop_below": dict.fromkeys(CLASSES, DROPPED)}
    params = LabellingParams.model_validate(chosen | labelling)
    state: State = label_images(model, inputs, f"{uuid4().hex}.zip", params, return_state=True)
    return state


def known(model: str, version: int) -> str:
    """Keep with a version that it found one label of each class in validation."""
    keep_validation(registry.find_version.fn(model, version), all_right(CLASSES))
    return model


def media() -> str:
    """A prefix of eight pictures, the first of them twice, a file that is no picture, and a video by its name."""
    prefix = f"label-{uuid4().hex[:8]}/"
    bodies = [cv2.imencode(".jpg", cv2.cvtColor(each, cv2.COLOR_RGB2BGR))[1].tobytes() for each in pictures(8)]
    files = {f"{number}.jpg": body for number, body in enumerate(bodies)} | {"again.jpg": bodies[3]}
    for name, body in (files | {"broken.jpg": bodies[0][:200], "clip.mp4": b"film"}).items():
        boto3.client("s3").put_object(Bucket="media", Key=prefix + name, Body=body)
    return prefix


def get(bucket: str, key: str) -> bytes:
    return bytes(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def sorted_out(run: str) -> tuple[dict[str, list[float]], list[str]]:
    """By what a run has predicted: the confidences that are taken in each image, and the images that are uncertain."""
    tables = [
        pq.read_table(io.BytesIO(get("predictions", f"{run}/{name}.parquet"))) for name in ("pictures", "predictions")
    ]
    scores: dict[str, list[float]] = {name: [] for name in tables[0]["source"].to_pylist()}
    for name, score in zip(tables[1]["source"].to_pylist(), tables[1]["confidence"].to_pylist(), strict=True):
        scores[name].append(score)
    uncertain = [name for name, own in scores.items() if any(DROPPED <= each < TAKEN for each in own)]
    taken = {name: [each for each in own if each >= TAKEN] for name, own in scores.items() if name not in uncertain}
    return taken, uncertain


def archived(state: State) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(get("datasets", str(state.message).partition(":")[0])))


def test_what_a_model_is_sure_of_becomes_an_archive_and_the_rest_a_list(unchanged: str) -> None:
    model, prefix = known(unchanged, 1), media()
    state = label(model, [prefix], background=True)
    assert state.is_completed(), state.message
    run = str(state.state_details.flow_run_id)
    taken, uncertain = sorted_out(run)
    again = f"s3://media/{prefix}again.jpg"
    twice = [again, f"s3://media/{prefix}3.jpg"]
    assert taken
    assert uncertain
    archive = archived(state)
    told = json.loads(archive.read("provenance.json"))
    assert told["labelled_by"] == {"model": model, "version": 1, "flow_run_id": run}
    assert set(told["images"].values()) | set(twice) == set(taken) | set(twice)
    for entry, source in told["images"].items():
        assert archive.read(entry) == get("media", source.removeprefix("s3://media/"))
        lines = archive.read(entry.replace("images", "labels").replace(".jpg", ".txt")).splitlines()
        assert len(lines) == len(taken[source])
    origins = list(unpack_label_origins(archive.read(LABEL_ORIGINS)).rows)
    assert {each.image for each in origins} == set(told["images"])
    assert sorted(each.confidence for each in origins if each.confidence) == pytest.approx(
        sorted(score for source in told["images"].values() for score in taken[source])
    )
    listed = find_image_list(run)
    assert listed is not None
    assert listed.predictions_run == run
    assert {each.source.name for each in listed.images} | set(twice) == set(uncertain) | set(twice)
    assert all("between 0.26 and 0.28" in each.reason for each in listed.images)
    page = get("runs", f"{run}/labelling.html").decode()
    assert f"labelled by <bdi>{model} version 1" in page
    assert "broken.jpg" in page

    served = model_control.list_served_versions(model)[0]
    before = model_control.request_stats(served)
    reviewed = label(model, [f"run:{run}"])
    assert reviewed.is_completed(), reviewed.message
    assert reviewed.name == "Nothing labelled"
    relisted = find_image_list(str(reviewed.state_details.flow_run_id))
    assert relisted is not None
    assert len(relisted.images) == len(listed.images)
    weighed = label(known(model, 2), [prefix], background=True, version=2)
    assert weighed.is_completed(), weighed.message
    assert model_control.request_stats(served) == before
    assert set(archived(weighed).namelist()) == set(archive.namelist())


@pytest.mark.heavy
def test_a_version_of_which_nothing_is_known_is_measured_or_refused(
    unchanged: str, challenger: int, tmp_path: Path
) -> None:
    prefix = media()
    state = label(unchanged, [prefix], version=challenger)
    assert state.is_failed()
    assert f"Run evaluate-model on {unchanged}" in str(state.message)
    trained_on = ArchivePlan(name=f"{uuid4().hex}.zip", classes=("circle", "square"), train=4, val=6, seed=4)
    boto3.client("s3").upload_file(str(write_archive(trained_on, tmp_path)), "datasets", trained_on.name)
    MlflowClient().set_model_version_tag(
        unchanged, str(challenger), "archives", json.dumps({trained_on.name: "0" * 64})
    )
    state = label(unchanged, [prefix], version=challenger, compare=trained_on.name)
    assert state.is_completed(), state.message
    page = get("runs", f"{state.state_details.flow_run_id}/labelling.html").decode()
    assert f"On 6 validation images ({trained_on.name}, split val)" in page
    assert f"On {trained_on.name}, which is labelled (10 images), they" in page

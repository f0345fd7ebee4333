"""People correct in a real Label Studio, and in a stand-in of CVAT, what a model suggested."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import cv2
import httpx
import numpy as np
import pytest

from tasks.dataset.label_origins import Origin, unpack_label_origins
from tasks.inference import done_inputs
from tasks.inference.results.chunk_reader import FAILURES, PICTURES, PREDICTIONS
from tasks.inference.results.parquet import IMAGES_SCHEMA, ParquetTableWriter, schema, to_image_table, to_table
from tasks.inference.results.report import StoredSummary
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.media.file_type import MediaKind
from tasks.orchestration import deployed_flows
from tasks.review import own_page
from tasks.review.rounds import NOTHING_REVIEWED
from tasks.serving.served_model import ServedModel
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.vision.detections import Detections
from tests.chaos.steps import read
from tests.cvat import CvatStandIn, Task
from tests.emitted import emitted
from tests.waiting import eventually

SIDE = 120
CLASSES = ("circle", "square")
NAMES = ("accepted", "moved", "reclassed", "redrawn", "skipped", "empty", "changed")
BOXES = np.array([[10, 10, 50, 50], [60, 60, 100, 110]], np.float32)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.fixture
def model(weights: Path) -> str:
    """A registered model with version 1; nobody has to serve it."""
    from tests.flows.registered import register

    name = f"review-{uuid4().hex[:8]}"
    register(name, weights, None)
    return name


@pytest.fixture
def predictions(model: str, tmp_path: Path) -> str:
    """A run of inference over an image for each of NAMES, two boxes in each; the last image was replaced since."""
    run, folder = str(uuid4()), tmp_path / "predictions"
    folder.mkdir()
    served = ServedModel(name=model, version=1, task="detect", image_size=96, class_names=CLASSES, run_id="")
    found, sources = [], []
    for number, name in enumerate(NAMES):
        key = f"{run}/{name}.jpg"
        sources.append(_put_picture(key, number))
        found.append(
            Detections(
                width=SIDE,
                height=SIDE,
                xyxy=BOXES,
                confidence=np.array([0.9, 0.3], np.float32),
                class_id=np.array([0, 1], np.int32),
                source=sources[-1].name,
            )
        )
    columns = schema("detect", tracked=False)
    with (
        ParquetTableWriter(folder / PREDICTIONS, columns) as rows,
        ParquetTableWriter(folder / PICTURES, IMAGES_SCHEMA) as pictures,
    ):
        rows.add(to_table(found, served, columns))
        pictures.add(to_image_table(found, served))
    (folder / FAILURES).write_bytes(b"")
    done_inputs.write_record(folder, [Chunk(0, tuple(sources))])
    summary: dict[str, Any] = dict.fromkeys(StoredSummary.__dataclass_fields__, 0)
    summary |= {"model_name": model, "model_version": 1, "model_versions": [1], "sentence": ""}
    (folder / "summary.json").write_text(json.dumps(summary))
    ObjectStore(Bucket.PREDICTIONS).upload_folder(folder, run)
    _put_picture(f"{run}/changed.jpg", 99)
    return run


def _put_picture(key: str, seed: int) -> MediaSource:
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    body = cv2.imencode(".jpg", pixels)[1].tobytes()
    etag = boto3.client("s3").put_object(Bucket="media", Key=key, Body=body)["ETag"]
    return MediaSource(
        name=f"s3://media/{key}", bucket="media", key=key, etag=etag, size=len(body), kind=MediaKind.IMAGE
    )


def _as_suggested(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return results


def _moved(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first, second = results
    return [first | {"value": first["value"] | {"x": first["value"]["x"] + 5}}, second]


def _reclassed(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first, second = results
    return [first, second | {"value": second["value"] | {"rectanglelabels": ["circle"]}}]


def _redrawn(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first, second = results
    return [second, first | {"id": "by-hand", "value": first["value"] | {"x": 60.0, "y": 5.0}}]


EDITS: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "accepted": _as_suggested,
    "moved": _moved,
    "reclassed": _reclassed,
    "redrawn": _redrawn,
    "empty": lambda _: [],
}


def _review(api: httpx.Client, run: UUID) -> None:
    """Correct each image as a person does, the skipped one last."""
    tasks = eventually(lambda: _shown(api, run), "all images are in the project", 120)
    for task in sorted(tasks, key=lambda task: "skipped" in task["data"]["entry"]):
        assert api.get(task["data"]["image"]).content[:2] == b"\xff\xd8"
        (suggested,) = task["predictions"]
        edit = EDITS.get(Path(task["data"]["entry"]).stem)
        answer = {"result": edit(suggested["result"])} if edit else {"result": [], "was_cancelled": True}
        eventually(lambda: read(run).state_name == "Suspended", "the run waits without a process", 60)
        api.post(f"/api/tasks/{task['id']}/annotations", json=answer | {"lead_time": 6.0}).raise_for_status()


def _shown(api: httpx.Client, run: UUID) -> list[dict[str, Any]]:
    projects = api.get("/api/projects", params={"title": f"review {run}"}).raise_for_status().json()["results"]
    if not projects:
        return []
    listed = api.get("/api/tasks", params={"project": projects[0]["id"], "fields": "all"}).raise_for_status().json()
    return list(listed["tasks"]) if listed["total"] == len(NAMES) - 1 else []


def test_what_people_submit_becomes_an_archive_that_says_who_labelled_what(
    label_studio: httpx.Client, model: str, predictions: str
) -> None:
    """The run waits suspended until the last image is skipped; nothing that was asked about is dropped silently."""
    key = f"{uuid4().hex}.zip"
    parameters = {"model_name": model, "inputs": [f"run:{predictions}"], "archive": key}
    run = deployed_flows.start("review-images", parameters)
    _review(label_studio, run)
    (project,) = label_studio.get("/api/projects", params={"title": f"review {run}"}).json()["results"]
    assert (project["show_instruction"], "or skip it" in project["expert_instruction"]) == (True, True)
    state = deployed_flows.wait(run, 240)
    assert state.is_completed(), state.message
    assert state.message == f"{key}: 5 images, 2 of 8 objects drawn by hand, 1 skipped"
    _check_archive(key, model, run)


def _check_archive(key: str, model: str, run: UUID) -> None:
    """Five labels were only accepted, and it says so; what was counted is told by the event."""
    body = boto3.client("s3").get_object(Bucket="datasets", Key=key)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        images = [name for name in archive.namelist() if name.startswith("images/")]
        origins = unpack_label_origins(archive.read("label-origins.parquet"))
    assert sorted(Path(name).stem for name in images) == sorted(EDITS)
    assert origins.images == set(images)
    accepted = [each for each in origins.rows if each.row is not None]
    rows = sorted((Path(each.image).stem, each.row, each.origin) for each in accepted)
    assert rows == [
        *(("accepted", row, Origin.ACCEPTED) for row in (0, 1)),
        ("moved", 1, Origin.ACCEPTED),
        ("reclassed", 0, Origin.ACCEPTED),
        ("redrawn", 0, Origin.ACCEPTED),
    ]
    assert {(each.model_name, each.model_version) for each in accepted} == {(model, 1)}
    payload = emitted("review.finished", f"dataset:{hashlib.sha256(body).hexdigest()}")["payload"]
    assert payload["changes"] == {"accepted": 5, "moved": 1, "reclassed": 1, "added": 1, "deleted": 3}
    page = boto3.client("s3").get_object(Bucket="runs", Key=f"{run}/review.html")["Body"].read().decode()
    assert page.count("<img ") == 2 * len(EDITS.keys() - {"accepted"})
    assert "does not tell what it has kept" in page  # of these predictions, which no run has made


def test_a_round_of_which_nothing_is_kept_ends_without_an_archive_and_lists_what_was_set_aside(
    model: str, predictions: str
) -> None:
    """Meanwhile no other review can take its name. The list is enough for a round in which people can draw."""
    key = f"{uuid4().hex}.zip"
    parameters = {"model_name": model, "archive": key, "review": {"tool": "front-page", "max_wait_d": 3}}
    run = deployed_flows.start("review-images", {**parameters, "inputs": [f"run:{predictions}"]})
    eventually(lambda: read(run).state_name == "Suspended", "people are asked", 180)
    second = deployed_flows.wait(deployed_flows.start("review-images", {**parameters, "inputs": ["nothing/"]}), 180)
    assert (second.is_failed(), f"review {run} will make" in str(second.message)) == (True, True)
    review = own_page.read_round(str(run))
    assert review.parameters == {"max_wait_d": 3.0}
    for number in range(len(review.images)):
        answer = own_page.PageAnswer(verdict="skipped" if number else "set_aside")
        own_page.keep_answer(str(run), review, number, answer)
    deployed_flows.resume(run)
    ended = deployed_flows.wait(run, 180)
    assert (ended.is_completed(), ended.name) == (True, NOTHING_REVIEWED)
    assert ended.message == f"{key}: nothing to keep, as 5 images were skipped and 1 set aside"
    assert not ObjectStore(Bucket.DATASETS).exists(key)
    payload = emitted("review.finished", f"review:{run}")["payload"]
    assert [payload[name] for name in ("archive", "images", "skipped", "set_aside")] == ["", 0, 5, 1]
    again = deployed_flows.start("review-images", {**parameters, "inputs": [f"run:{run}"]})
    eventually(lambda: read(again).state_name == "Suspended", "the name is free, and people are asked", 180)
    drawn = own_page.read_round(str(again))
    assert ([image.source for image in drawn.images], drawn.predictions_run) == ([review.images[0].source], predictions)
    assert drawn.images[0].reason == "somebody has set it aside: an object is missing"
    deployed_flows.cancel(again)


def _in_cvat(cvat: CvatStandIn, run: UUID) -> list[Task]:
    return [task for task in cvat.tasks.values() if task.name == f"review {run}"]


def _edit_in_cvat(task: Task) -> None:
    """Correct each image as the others do in Label Studio, and complete the job."""
    frames = {name.partition("-")[2].partition(".")[0]: number for number, name in enumerate(task.images)}
    shapes = {name: [each for each in task.shapes if each["frame"] == frame] for name, frame in frames.items()}
    for at in (0, 2):
        shapes["moved"][0]["points"][at] += 6
    circle, square = (next(label["id"] for label in task.labels if label["name"] == name) for name in CLASSES)
    assert [each["label_id"] for each in shapes["reclassed"]] == [circle, square]
    shapes["reclassed"][1]["label_id"] = circle
    shapes["redrawn"][0]["points"] = [72.0, 6.0, 112.0, 46.0]
    shapes["redrawn"].reverse()
    shapes["empty"] = []
    task.shapes = [each for own in shapes.values() for each in own]
    task.deleted = {frames["skipped"]}
    task.finish()


def test_a_round_in_cvat_waits_without_a_process_until_its_jobs_are_completed(
    cvat: CvatStandIn, model: str, predictions: str
) -> None:
    key = f"{uuid4().hex}.zip"
    parameters = {"model_name": model, "inputs": [f"run:{predictions}"], "archive": key, "review": {"tool": "cvat"}}
    run = deployed_flows.start("review-images", parameters)
    (task,) = eventually(lambda: _in_cvat(cvat, run), "all images are in the task", 120)
    assert len(task.images) == len(NAMES) - 1
    eventually(lambda: read(run).state_name == "Suspended", "the run waits without a process", 60)
    _edit_in_cvat(task)
    state = deployed_flows.wait(run, 240)
    assert state.is_completed(), state.message
    assert state.message == f"{key}: 5 images, 2 of 8 objects drawn by hand, 1 skipped"
    _check_archive(key, model, run)

"""People correct in a real Label Studio what a model suggested, and the archive says who labelled what."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import cv2
import httpx
import numpy as np
import pytest
from prefect.client.schemas.objects import State

from flows.review_images import review_images
from tasks.dataset.label_origins import Origin, unpack_label_origins
from tasks.inference import done_inputs
from tasks.inference.results.chunk_reader import FAILURES, PICTURES, PREDICTIONS
from tasks.inference.results.parquet import IMAGES_SCHEMA, ParquetTableWriter, schema, to_image_table, to_table
from tasks.inference.results.report import StoredSummary
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.media.file_type import MediaKind
from tasks.parameters import ReviewParams
from tasks.serving.served_model import ServedModel
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.tracking import registry
from tasks.vision.detections import Detections
from tests.emitted import emitted
from tests.label_studio import reviewer, run_label_studio
from tests.waiting import eventually

SIDE = 120
CLASSES = ("circle", "square")
NAMES = ("accepted", "moved", "reclassed", "redrawn", "skipped", "empty", "changed")
BOXES = np.array([[10, 10, 50, 50], [60, 60, 100, 110]], np.float32)

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """Label Studio, which the flow finds by its environment, as a person."""
    with run_label_studio(tmp_path) as settings, reviewer(settings) as api:
        for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
            monkeypatch.setenv(name, settings.environment[name])
        yield api


@pytest.fixture
def predictions(tmp_path: Path) -> str:
    """A run of inference over an image for each of NAMES, two boxes in each; the last image was replaced since."""
    run, folder = str(uuid4()), tmp_path / "predictions"
    folder.mkdir()
    model = ServedModel(name="shapes", version=2, task="detect", image_size=96, class_names=CLASSES, run_id="")
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
        rows.add(to_table(found, model, columns))
        pictures.add(to_image_table(found, model))
    (folder / FAILURES).write_bytes(b"")
    done_inputs.write_record(folder, [Chunk(0, tuple(sources))])
    summary: dict[str, Any] = dict.fromkeys(StoredSummary.__dataclass_fields__, 0)
    summary |= {"model_name": "shapes", "model_version": 2, "model_versions": [2], "sentence": ""}
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


def _review(api: httpx.Client) -> None:
    """Correct each image as a person does, the skipped one last."""
    tasks = eventually(lambda: _shown(api), "all images are in the project", 120)
    for task in sorted(tasks, key=lambda task: "skipped" in task["data"]["entry"]):
        assert httpx.get(f"{api.base_url}{task['data']['image']}", headers=api.headers).content[:2] == b"\xff\xd8"
        (suggested,) = task["predictions"]
        name = Path(task["data"]["entry"]).stem
        answer = (
            {"was_cancelled": True, "result": []} if name == "skipped" else {"result": EDITS[name](suggested["result"])}
        )
        api.post(f"/api/tasks/{task['id']}/annotations", json=answer | {"lead_time": 6.0}).raise_for_status()


def _shown(api: httpx.Client) -> list[dict[str, Any]]:
    projects = api.get("/api/projects").raise_for_status().json()["results"]
    if not projects:
        return []
    listed = api.get("/api/tasks", params={"project": projects[0]["id"], "fields": "all"}).raise_for_status().json()
    return listed["tasks"] if listed["total"] == len(NAMES) - 1 else []


def test_what_people_submit_becomes_an_archive_that_says_who_labelled_what(
    api: httpx.Client, predictions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waits until the last image is skipped; nothing that was asked about is dropped without a word."""
    version = registry.ModelVersion(
        name="shapes", version=2, run_id="", task="detect", image_size=96, class_names=CLASSES
    )
    monkeypatch.setattr(registry, "find_version", lambda *_: version)
    key = f"{uuid4().hex}.zip"
    person = threading.Thread(target=_review, args=(api,))
    person.start()
    params = ReviewParams(val=0.4)
    state: State = review_images("shapes", [f"run:{predictions}"], key, params, return_state=True)
    person.join()
    assert state.is_completed(), state.message
    assert state.message == f"{key}: 5 images, 2 of 8 objects drawn by hand"

    body = boto3.client("s3").get_object(Bucket="datasets", Key=key)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        images = [name for name in archive.namelist() if name.startswith("images/")]
        origins = unpack_label_origins(archive.read("label-origins.parquet"))
    assert sorted(Path(name).stem for name in images) == sorted(EDITS)
    rows = sorted((Path(each.image).stem, each.row, each.origin) for each in origins.rows)
    assert rows == [
        *(("accepted", row, Origin.ACCEPTED) for row in (0, 1)),
        ("moved", 1, Origin.ACCEPTED),
        ("reclassed", 0, Origin.ACCEPTED),
        ("redrawn", 0, Origin.ACCEPTED),
    ]
    assert {(each.model_name, each.model_version) for each in origins.rows} == {("shapes", 2)}
    payload = emitted("review.finished", f"dataset:{hashlib.sha256(body).hexdigest()}")["payload"]
    assert payload["changes"] == {"accepted": 5, "moved": 1, "reclassed": 1, "added": 1, "deleted": 3}

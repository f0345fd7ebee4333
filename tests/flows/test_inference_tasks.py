"""Batch inference on a served model of each other task: what its tables, its COCO file and its pictures hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import cv2
import numpy as np
import pyarrow as pa
import pytest

from infra.demo_data import CLASSES
from tasks.export.exporter import write_graph
from tasks.inference.results.parquet import schema
from tasks.serving import model_repository
from tasks.tracking import registered_models, registry
from tasks.vision.geometry import Floats, Letterbox, Rgb, center_crop, enclosing_boxes, xywhr_to_corners
from tests.flows.registered import SIZE, pictures
from tests.flows.steps import UNCOMPARED, deploy
from tests.flows.test_run_inference import infer, jpeg, put, result, table
from tests.tasks.export.finders import finder
from tests.tasks.serving.parity.test_gate import ARCHITECTURES
from tests.tasks.training.trained import opened, trained

pytestmark = pytest.mark.usefixtures("stack")
TASKS = ("segment", "classify", "pose", "obb")
KEYPOINTS = 17


class Seen(NamedTuple):
    """A run over three pictures, with what it wrote about them."""

    task: str
    model: str
    run: str
    sources: list[str]
    rows: pa.Table
    pictures: pa.Table
    coco: dict[str, Any]

    def numbers(self, *columns: str) -> Floats:
        """Columns of predictions.parquet, a row a detection."""
        return np.stack([self.rows[name].to_numpy() for name in columns], axis=1)

    def lists(self, column: str) -> list[Floats]:
        """A column of lists; none is missing."""
        assert self.rows[column].null_count == 0
        return [np.asarray(values, np.float32) for values in self.rows[column].to_pylist()]


def squares(task: str) -> list[Rgb]:
    """Pictures as a model of the task is shown them."""
    if task == "classify":
        return [center_crop(image, SIZE) for image in pictures(8)]
    return [Letterbox.fit(image.shape[1], image.shape[0], SIZE).apply(image) for image in pictures(8)]


def serve(task: str, folder: Path) -> str:
    """Register weights of the task as a training does, and deploy them."""
    name, run = f"{task}-{uuid4().hex[:8]}", str(uuid4())
    weights = finder(folder, ARCHITECTURES[task], squares(task), len(CLASSES))
    model = trained(folder, weights, task, CLASSES)
    version: int = registry.register_version.fn(name, opened(run), model, SIZE, {"flow_run_id": run}, "")
    registry.set_alias.fn(name, registered_models.CHALLENGER, version)
    model_repository.publish_version.fn(name, version, write_graph(weights, folder / "graph", SIZE))
    state = deploy(name, version, **UNCOMPARED)
    assert state.is_completed(), state.message
    return name


@pytest.fixture(scope="module", params=[TASKS[0], *(pytest.param(task, marks=pytest.mark.heavy) for task in TASKS[1:])])
def seen(request: pytest.FixtureRequest, stack: object, tmp_path_factory: pytest.TempPathFactory) -> Seen:  # noqa: ARG001
    task: str = request.param
    model = serve(task, tmp_path_factory.mktemp(task))
    prefix = put({f"{number}.jpg": jpeg(picture) for number, picture in enumerate(pictures(3))})
    state = infer(model, prefix, confidence=0.0 if task == "classify" else 0.005)
    assert (state.type.name, state.name) == ("COMPLETED", "Completed"), state.message
    tables = table(state, "predictions.parquet"), table(state, "pictures.parquet")
    run, sources = str(state.state_details.flow_run_id), [f"s3://media/{prefix}{number}.jpg" for number in range(3)]
    return Seen(task, model, run, sources, *tables, json.loads(result(state, "coco.json")))


def test_every_picture_is_listed_once_and_every_row_belongs_to_one(seen: Seen) -> None:
    assert seen.rows.schema.equals(schema(seen.task, tracked=False))
    assert seen.pictures["source"].to_pylist() == seen.sources
    assert set(seen.rows["source"].to_pylist()) == set(seen.sources)
    found = [seen.rows["source"].to_pylist().count(source) for source in seen.sources]
    assert seen.pictures["detections"].to_pylist() == found
    assert set(seen.rows["model_name"].to_pylist()) == {seen.model}
    names = [CLASSES[number] for number in seen.rows["class_id"].to_pylist()]
    assert seen.rows["class_name"].to_pylist() == names
    assert json.loads(read(seen, "summary.json"))["detections"] == seen.rows.num_rows


def test_boxes_lie_inside_their_picture(seen: Seen) -> None:
    boxes, (width, height) = seen.numbers("x1", "y1", "x2", "y2"), size(seen)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [width, height]).all()


def test_rows_say_what_the_task_finds(seen: Seen) -> None:
    CHECKS[seen.task](seen)


def check_outlines(seen: Seen) -> None:
    """Rings inside the picture, and inside their boxes up to a pixel of the mask."""
    boxes, rings, pixel = seen.numbers("x1", "y1", "x2", "y2"), seen.lists("polygon"), max(size(seen)) / SIZE
    assert len(rings) > 10
    for box, ring in zip(boxes, rings, strict=True):
        points = ring.reshape(-1, 2)
        assert len(points) >= 3
        assert (points >= 0).all()
        assert (points <= size(seen)).all()
        assert (points >= box[:2] - pixel).all()
        assert (points <= box[2:] + pixel).all()
    assert any(len(ring) > 8 for ring in rings)  # more than boxes


def check_classes(seen: Seen) -> None:
    """A row a class and picture, the likeliest first, whose box is the whole picture."""
    assert seen.pictures["detections"].to_pylist() == [len(CLASSES)] * len(seen.sources)
    whole = np.tile([0, 0, *size(seen)], (seen.rows.num_rows, 1))
    np.testing.assert_array_equal(seen.numbers("x1", "y1", "x2", "y2"), whole)
    scores = seen.rows["confidence"].to_numpy().reshape(-1, len(CLASSES))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-3)
    assert (np.diff(scores, axis=1) <= 0).all()
    for ids in seen.rows["class_id"].to_numpy().reshape(-1, len(CLASSES)):
        assert sorted(ids) == list(range(len(CLASSES)))


def check_keypoints(seen: Seen) -> None:
    points = np.stack(seen.lists("keypoints")).reshape(-1, KEYPOINTS, 3)
    assert len(points) > 10
    assert (points[..., :2] >= 0).all()
    assert (points[..., :2] <= size(seen)).all()
    assert ((points[..., 2] >= 0) & (points[..., 2] <= 1)).all()
    assert (np.ptp(points[..., :2], axis=1).max(axis=1) > 1).any()  # they go everywhere, not to one place


def check_rotated(seen: Seen) -> None:
    """The outline is that of the rotated box, and the upright box is around it, cut at the edges of the picture."""
    rotated, rings = np.stack(seen.lists("rotated")), np.stack(seen.lists("polygon"))
    assert len(rotated) > 10
    assert (rotated[:, 2:4] > 0).all()
    assert len(np.unique(rotated[:, 4].round(2))) > 3
    np.testing.assert_allclose(rings.reshape(-1, 4, 2), xywhr_to_corners(rotated), atol=0.01)
    width, height = size(seen)
    around = np.clip(enclosing_boxes(rotated), 0, np.array([width, height, width, height], np.float32))
    # The graph rounds the hull in pixels of its square.
    np.testing.assert_allclose(seen.numbers("x1", "y1", "x2", "y2"), around, atol=0.5)


CHECKS: dict[str, Callable[[Seen], None]] = {
    "segment": check_outlines,
    "classify": check_classes,
    "pose": check_keypoints,
    "obb": check_rotated,
}


def test_coco_says_the_same(seen: Seen) -> None:
    entries = seen.coco["annotations"]
    assert [image["source"] for image in seen.coco["images"]] == seen.sources
    files = {image["id"]: image["source"] for image in seen.coco["images"]}
    names = {category["id"]: category["name"] for category in seen.coco["categories"]}
    assert [files[entry["image_id"]] for entry in entries] == seen.rows["source"].to_pylist()
    assert [names[entry["category_id"]] for entry in entries] == seen.rows["class_name"].to_pylist()
    assert {"segmentation" in entry for entry in entries} == {seen.task in ("segment", "obb")}
    assert {"keypoints" in entry for entry in entries} == {seen.task == "pose"}
    if seen.task in ("segment", "obb"):
        for entry, ring in zip(entries, seen.lists("polygon"), strict=True):
            np.testing.assert_allclose(entry["segmentation"], [ring], atol=0.01)
    if seen.task == "pose":
        assert {len(entry["keypoints"]) for entry in entries} == {3 * KEYPOINTS}
        shown = [int((points[2::3] >= 0.5).sum()) for points in seen.lists("keypoints")]
        assert [entry["num_keypoints"] for entry in entries] == shown


def test_annotated_images_show_what_was_detected(seen: Seen) -> None:
    listed = boto3.client("s3").list_objects_v2(Bucket="predictions", Prefix=f"{seen.run}/annotated/")["Contents"]
    assert len(listed) == len(seen.sources)
    for picture, entry in zip(pictures(3), sorted(listed, key=lambda entry: entry["Key"]), strict=True):
        drawn = cv2.imdecode(np.frombuffer(read(seen, entry["Key"].removeprefix(f"{seen.run}/")), np.uint8), 1)
        assert drawn is not None
        assert drawn.shape == picture.shape
        plain = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        assert (cv2.absdiff(drawn, plain) > 60).any(), "nothing was drawn"


def read(seen: Seen, name: str) -> bytes:
    return boto3.client("s3").get_object(Bucket="predictions", Key=f"{seen.run}/{name}")["Body"].read()


def size(seen: Seen) -> tuple[int, int]:
    """Width and height, which all pictures have in common."""
    ((width, height),) = set(zip(seen.pictures["width"].to_pylist(), seen.pictures["height"].to_pylist(), strict=True))
    return width, height

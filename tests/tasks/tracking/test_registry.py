"""The model registry, against the real one: versions, what they say of themselves, and their weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from infra import demo_data
from tasks.merge.training_images import TRAINING_IMAGES, TrainingImages, pack_training_images
from tasks.tracking import live_metrics, registered_models, registry, runs
from tasks.tracking.ancestry import Ancestry, read_ancestry
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.payloads import version_description
from tasks.training.events import TrainedModel
from tests.tasks.training.trained import LINEAGE, epoch, opened, run, steps, trained

pytestmark = pytest.mark.usefixtures("stack")


def registered(name: str, model: TrainedModel, flow_run_id: str) -> int:
    """A version of a flow run, registered as train_model does."""
    tags = {**LINEAGE, "flow_run_id": flow_run_id}
    description = version_description(model, 64, tags)
    number: int = registry.register_version.fn(name, opened(flow_run_id), model, 64, tags, description)
    return number


def version(name: str, number: int) -> ModelVersion:
    found: ModelVersion = MlflowClient().get_model_version(name, str(number))
    return found


def test_a_version_says_what_it_is_and_where_it_is_from(untrained: Path) -> None:
    flow_run_id = str(uuid4())
    model = trained(untrained.parent, untrained, classes=("cat", "dög", "c"))
    number = registered("described", model, flow_run_id)
    tags = version("described", number).tags
    assert (tags["task"], tags["image_size"], json.loads(tags["class_names"])) == ("detect", "64", ["cat", "dög", "c"])
    assert json.loads(tags["metrics"]) == {"mAP50-95": 0.375, "precision": 0.5}
    assert json.loads(tags["class_metrics"]) == {"cat": {"mAP50-95": 0.25}, "dög": {"mAP50-95": 0.5}}
    assert (tags["epochs"], tags["best_epoch"], tags["flow_run_id"]) == ("3", "2", flow_run_id)
    assert version("described", number).run_id == opened(flow_run_id)
    description = str(version("described", number).description)
    for text in (
        "mAP50-95 0.3750 on 7",
        "| cat | 0.2500 |",
        "Not in validation: c",
        "| yolo11n.yaml |",
        "| a.zip@aa |",
    ):
        assert text in description

    found = registry.find_version.fn("described", number)
    assert found == registry.ModelVersion(
        name="described",
        version=number,
        run_id=opened(flow_run_id),
        task="detect",
        image_size=64,
        class_names=("cat", "dög", "c"),
    )
    assert registry.fetch_weights.fn(found, untrained.parent / "back").read_bytes() == untrained.read_bytes()


def test_a_training_that_is_tried_again_registers_no_second_version(untrained: Path) -> None:
    """Another training does; and registering leaves the run as it is, open and with each step once."""
    model = trained(untrained.parent, untrained)
    first, other = str(uuid4()), str(uuid4())
    run_id = opened(first)
    for number in (1, 2, 3):
        live_metrics.EpochLogger(run_id, lambda: True)(epoch(number))
    runs.log_training.fn(run_id, model)
    assert [registered("again", model, each) for each in (first, first, other, first)] == [1, 1, 2, 1]
    assert run(run_id).info.status == "RUNNING"
    assert steps(run_id, "train/box_loss") == [1, 2, 3]
    assert steps(run_id, "best/mAP50-95") == [2]
    assert mlflow.active_run() is None


def test_a_version_with_many_classes_is_registered(untrained: Path) -> None:
    """Long names, long tables: what MLflow cannot keep whole is cut, the class names never."""
    names = tuple(f"{number} {'n' * 60}" for number in range(1300))
    model = trained(untrained.parent, untrained, classes=names)
    metrics = {name: {"mAP50": 0.5, "mAP50-95": 0.25, "more": 0.125} for name in names}
    model = replace(model, scores=replace(model.scores, classes=metrics))
    number = registered("many", model, str(uuid4()))
    tags = version("many", number).tags
    assert tuple(json.loads(tags["class_names"])) == names
    assert set(json.loads(tags["class_metrics"])) < set(names)
    assert len(str(version("many", number).description)) <= 5000


def test_tags_are_added_to_a_version(untrained: Path) -> None:
    number = registered("tagged", trained(untrained.parent, untrained), str(uuid4()))
    registry.tag_version.fn("tagged", number, {"promotion": "refused", "promotion_reason": "x" * 100_001})
    registry.tag_version.fn("tagged", number, {"promotion": "promoted"})
    assert version("tagged", number).tags["promotion"] == "promoted"
    assert len(version("tagged", number).tags["promotion_reason"]) == 100_000
    assert version("tagged", number).tags["task"] == "detect"


def test_one_name_is_for_one_task(untrained: Path) -> None:
    """Versions that were not registered by train_model say no task, and are passed over."""
    registry.require_task.fn("nobody", "segment")
    registered("boxes", trained(untrained.parent, untrained), str(uuid4()))
    source = str(version("boxes", 1).source)
    MlflowClient().create_model_version("boxes", source, model_id=source.removeprefix("models:/"))
    registry.require_task.fn("boxes", "detect")
    expected = "found version 1 for 'detect', and this one is for 'segment'. Choose another model_name"
    with pytest.raises(TrackingError, match=expected):
        registry.require_task.fn("boxes", "segment")


def test_a_training_can_begin_from_a_registered_version(untrained: Path, tmp_path: Path) -> None:
    number = registered("base", trained(untrained.parent, untrained), str(uuid4()))
    assert registry.find_champion.fn("base") is None
    registry.set_alias.fn("base", registered_models.CHAMPION, number)
    assert registry.find_champion.fn("base") == registry.find_version.fn("base", number)
    for address in ("models:/base@champion", "models:/base/1"):
        found = registry.fetch_registered_base_model.fn(address, tmp_path / address[-8:])
        assert found is not None
        assert (found[0], found[1].read_bytes()) == ("models:/base/1", untrained.read_bytes())


def test_a_version_has_learnt_what_the_versions_before_it_have_learnt(untrained: Path, tmp_path: Path) -> None:
    steps = [("yolo11n.pt", {"a.zip": "1"}), ("models:/line/1", {"a.zip": "2"}), ("models:/line/2", {"b.zip": "3"})]
    images = [TrainingImages(train=frozenset({(at, 9)}), val=frozenset({(7, 9)})) for at in range(2)]
    for at, (base, archives) in enumerate(steps):
        number = registered("line", trained(untrained.parent, untrained), str(uuid4()))
        registry.tag_version.fn(
            "line", number, {"base_model": base, "base_model_sha256": f"{at}", "archives": json.dumps(archives)}
        )
        path = tmp_path / TRAINING_IMAGES
        path.write_bytes(pack_training_images(images[at]) if at < 2 else b"of somebody else")
        runs.log_artifact.fn(str(version("line", number).run_id), path)
    ancestry = read_ancestry.fn(registry.find_version.fn("line", 3))
    assert ancestry.archives == {"a.zip": {"1", "2"}, "b.zip": {"3"}}
    assert (ancestry.base_model, ancestry.base_digest) == ("yolo11n.pt", "0")
    assert (ancestry.images, ancestry.tells_images) == (images[0] | images[1], False)
    assert read_ancestry.fn(registry.find_version.fn("line", 2)).tells_images
    registry.tag_version.fn("line", 1, {"base_model": "models:/line/3"})
    assert read_ancestry.fn(registry.find_version.fn("line", 3)).base_model == "models:/line/3"
    MlflowClient().delete_model_version("line", "1")
    assert read_ancestry.fn(registry.find_version.fn("line", 2)) == Ancestry(
        archives={"a.zip": frozenset({"2"})},
        base_model="models:/line/1",
        base_digest="1",
        images=images[1],
        tells_images=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        *("yolo11n.pt", "base/1", "models:/base", "models:/base/latest", "models:/base/0", "models:/m-0123/x/y"),
        *("models:/../1", "models://base/1", "models:/base@", "models:/base/1\n", " models:/base/1"),
        *("runs:/1/m", "s3://models:/base/1"),
    ],
)
def test_any_other_base_model_is_not_looked_for_in_the_registry(name: str, tmp_path: Path) -> None:
    assert registry.fetch_registered_base_model.fn(name, tmp_path) is None


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("models:/missing@champion", "Expected a model 'missing'; the registry has "),
        ("models:/missing/1", "Expected a model 'missing'; the registry has "),
        ("models:/there/999999999", r"Expected 'there' to have 999999999; found versions \[1\]"),
        ("models:/there@champion", r"Model 'there' has no champion: deploy one of its versions \[1\]"),
        ("models:/there@best", r"Expected 'there' to have 'best'; found versions \[1\]"),
    ],
)
def test_a_registered_base_model_that_is_missing_is_named(
    address: str, found: str, untrained: Path, tmp_path: Path
) -> None:
    if "/there" in address and not MlflowClient().search_model_versions("name = 'there'"):
        registered("there", trained(untrained.parent, untrained), str(uuid4()))
    with pytest.raises(TrackingError, match=found):
        registry.fetch_registered_base_model.fn(address, tmp_path)


SYNSET = "n01440764"  # for which Ultralytics says tench
BOX = ["image", "class_id", "class_name", "confidence", "x1", "y1", "x2", "y2"]


def predicted(task: str, architecture: str, folder: Path, conf: float) -> tuple[pd.DataFrame, list[str]]:
    """What a registered model that has learned nothing finds on two pictures of 160 x 120 pixels."""
    from ultralytics.models import YOLO

    weights = folder / f"{task}.pt"
    model: Any = YOLO(architecture)
    model.model.names[0] = SYNSET
    model.save(weights)
    number = registered(f"pyfunc-{task}", trained(folder, weights, task), str(uuid4()))
    images = [str(folder / name) for name in ("a.jpg", "b.jpg")]
    for image in images:
        Path(image).write_bytes(demo_data.draw_image(np.random.default_rng(5), ("circle",))[0])
    model = mlflow.pyfunc.load_model(f"models:/pyfunc-{task}/{number}")
    signature = model.metadata.signature
    found = model.predict(pd.DataFrame({"image": images}), params={"conf": conf})
    assert [column.name for column in signature.outputs] == list(found.columns)
    assert {param.name: param.default for param in signature.params} == {"conf": 0.25, "iou": 0.7, "imgsz": 64}
    return found, images


@pytest.mark.parametrize(
    ("task", "architecture", "column", "points", "values"),
    [
        ("detect", "yolo11n.yaml", None, 0, 0),
        ("segment", "yolo11n-seg.yaml", "polygon", None, 2),
        ("pose", "yolo11n-pose.yaml", "keypoints", 17, 3),
        ("obb", "yolo11n-obb.yaml", "corners", 4, 2),
    ],
)
def test_a_registered_model_finds_objects(
    task: str, architecture: str, column: str | None, points: int | None, values: int, tmp_path: Path
) -> None:
    """A row an object, with the outline of its task, as plain lists in pixels of the image."""
    found, images = predicted(task, architecture, tmp_path, conf=1e-7)
    assert list(found.columns) == BOX + ([column] if column else [])
    assert set(found["image"]) == set(images)
    assert (found["x1"] <= found["x2"]).all()
    outlines = found[column].tolist() if column else []
    assert {len(point) for outline in outlines for point in outline} <= {values}
    if points is not None and column:
        assert {len(outline) for outline in outlines} == {points}
    if task == "obb":
        for row in found.to_dict("records"):
            assert min(x for x, _ in row["corners"]) == pytest.approx(row["x1"], abs=0.1)


def test_a_registered_model_finds_nothing_where_it_is_not_sure(tmp_path: Path) -> None:
    found, _ = predicted("detect", "yolo11n.yaml", tmp_path, conf=0.99)
    assert list(found.columns) == BOX
    assert found.empty


def test_a_registered_classifier_gives_every_class_of_every_image(tmp_path: Path) -> None:
    found, images = predicted("classify", "yolo11n-cls.yaml", tmp_path, conf=0.25)
    assert list(found.columns) == BOX[:4]
    for image in images:
        rows = found[found["image"] == image]
        assert sorted(rows["class_id"]) == list(range(1000))
        assert rows.set_index("class_id")["class_name"][0] == SYNSET
        assert rows["confidence"].is_monotonic_decreasing
        assert rows["confidence"].sum() == pytest.approx(1, abs=1e-3)


def test_a_registered_model_takes_files_alone(untrained: Path) -> None:
    """Ultralytics would open an address or a camera."""
    number = registered("files", trained(untrained.parent, untrained), str(uuid4()))
    model = mlflow.pyfunc.load_model(f"models:/files/{number}")
    with pytest.raises(FileNotFoundError, match="Expected the path of an image file on this machine, found '0'"):
        model.predict(pd.DataFrame({"image": ["0"]}))

"""The validation sample of a version, as its training kept it, is read with its labels for every task."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tasks.evaluation.labelled_images import label_detections
from tasks.merge.pack_sample import pack_sample
from tasks.tracked_monitoring.references import _shift, open_sample
from tasks.tracking.registry import ModelVersion
from tests.tasks.merge.archives import picture, row

NAMES = ("cat", "dog", "rare")
OWN = {"detect": "xyxy", "segment": "polygons", "pose": "keypoints", "obb": "xywhr"}


def opened(data: Path, task: str, folder: Path) -> list[tuple[str, list[int], object]]:
    pack_sample(data, task, NAMES, folder / "sample.zip", 64)
    version = ModelVersion(name="m", version=1, run_id="", task=task, image_size=64, class_names=NAMES)
    found = open_sample(folder / "sample.zip", version, folder / "opened")
    assert (found.task, found.class_names) == (task, NAMES)
    labels = [label_detections(image, found, task, 96, 72) for image in found.images]
    return [(each.name, own.class_id.tolist(), own) for each, own in zip(found.images, labels, strict=True)]


@pytest.mark.parametrize("task", OWN)
def test_labels_are_those_of_the_sample(task: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for kind in ("images", "labels"):
        (data / kind / "val").mkdir(parents=True)
    for number in range(3):
        (data / "images" / "val" / f"{number}.jpg").write_bytes(picture(number))
        (data / "labels" / "val" / f"{number}.txt").write_text("" if number == 2 else f"{row(number, number, task)}\n")
    described = {"kpt_shape": [2, 3], "flip_idx": [1, 0]} if task == "pose" else {}
    (data / "data.yaml").write_text(yaml.safe_dump(described))
    found = opened(data / "data.yaml", task, tmp_path)
    assert [classes for _, classes, _ in found] == [[0], [1], []]
    assert getattr(found[0][2], OWN[task]) is not None


def test_classes_of_a_tree_are_its_folders_also_if_some_are_not_shown(tmp_path: Path) -> None:
    for class_id in (1, 2):
        (tmp_path / "data" / "val" / str(class_id)).mkdir(parents=True)
        (tmp_path / "data" / "val" / str(class_id) / "a.jpg").write_bytes(picture(class_id))
    found = opened(tmp_path / "data", "classify", tmp_path)
    assert [(name, classes) for name, classes, _ in found] == [("a.jpg", [1]), ("a.jpg", [2])]


@pytest.mark.parametrize(("width", "height", "side"), [(320, 240, 128), (1024, 768, 416), (640, 427, 512)])
def test_images_that_a_model_sees_smaller_keep_their_size_to_the_last_digit(width: int, height: int, side: int) -> None:
    """A window of images of the same size would drift otherwise: next to nothing lies between two bins."""
    stored = {"image size": np.array([(width * height) ** 0.5])}
    seen = {"image size": np.array([(side * round(side * height / width)) ** 0.5])}
    np.testing.assert_array_equal(_shift(stored, seen, seen)["image size"], stored["image size"])

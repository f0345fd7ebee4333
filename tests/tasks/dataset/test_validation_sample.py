"""A validation sample, unpacked without trust."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tasks.dataset.validation_sample import SampleError, unpack_sample

DATA = b"names: {0: cat, 1: dog}\n"


def packed(folder: Path, files: Mapping[str, bytes]) -> Path:
    path = folder / "sample.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def labelled(folder: Path, label: str, task: str) -> np.ndarray:
    files = {"data.yaml": DATA, "images/val/a.jpg": b"pixels", "labels/val/a.txt": label.encode()}
    (image,) = unpack_sample(packed(folder, files), task, folder / "images").images
    assert image.truth.class_id.tolist() == [1]
    return image.truth.boxes(100, 200).round(3)


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("detect", "1 0.5 0.5 0.2 0.4"),
        ("detect", "1 0.4 0.3 0.6 0.3 0.6 0.7"),
        ("segment", "1 0.4 0.3 0.6 0.3 0.6 0.7"),
        ("pose", "1 0.5 0.5 0.2 0.4 0.1 0.1 2 0.9 0.9 2"),
        ("obb", "1 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7"),
    ],
)
def test_labels_of_every_task_give_boxes(tmp_path: Path, task: str, label: str) -> None:
    assert labelled(tmp_path, label + "\n", task).tolist() == [[40, 60, 60, 140]]


def test_rotated_labels_stay_rotated(tmp_path: Path) -> None:
    files = {"data.yaml": DATA, "images/val/a.jpg": b"", "labels/val/a.txt": b"0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5\n"}
    (image,) = unpack_sample(packed(tmp_path, files), "obb", tmp_path / "images").images
    ((x, y, width, height, angle),) = image.truth.rotated(100, 100).tolist()
    assert (x, y, width, height) == pytest.approx((50, 50, 200**0.5, 200**0.5), abs=0.01)
    assert angle % (np.pi / 2) == pytest.approx(np.pi / 4)


def test_an_image_without_labels_shows_nothing(tmp_path: Path) -> None:
    files = {"data.yaml": DATA, "images/val/a.jpg": b"pixels"}
    found = unpack_sample(packed(tmp_path, files), "detect", tmp_path / "images")
    assert found.class_names == ("cat", "dog")
    assert found.images[0].path.read_bytes() == b"pixels"
    assert len(found.images[0].truth.class_id) == 0


def test_the_folder_of_a_tree_is_the_class(tmp_path: Path) -> None:
    files = {"data.yaml": DATA, "val/1/b.jpg": b"b", "val/0/a.jpg": b"a"}
    found = unpack_sample(packed(tmp_path, files), "classify", tmp_path / "images")
    assert [(image.name, int(image.truth.class_id[0])) for image in found.images] == [("a.jpg", 0), ("b.jpg", 1)]


@pytest.mark.parametrize(
    "name", ["../images/val/a.jpg", "/images/val/a.jpg", "images/val/../../../a.jpg", "images/train/a.jpg", "a.jpg"]
)
def test_only_images_of_val_are_taken_and_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    files = {"data.yaml": DATA, "images/val/good.jpg": b"", name: b"hostile"}
    (image,) = unpack_sample(packed(tmp_path, files), "detect", tmp_path / "deep" / "images").images
    assert image.name == "good.jpg"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["0000.jpg", "sample.zip"]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"images/val/a.jpg": b""},
        {"data.yaml": DATA},
        {"data.yaml": b"names: 3\n", "images/val/a.jpg": b""},
        {"data.yaml": b"[", "images/val/a.jpg": b""},
        {"data.yaml": DATA, "images/val/a.jpg": b"", "labels/val/a.txt": b"cat 1 2 3 4\n"},
        {"data.yaml": DATA, "images/val/a.jpg": b"", "labels/val/a.txt": b"2 0.5 0.5 0.2 0.2\n"},
        {"data.yaml": DATA, "images/val/a.jpg": b"", "labels/val/a.txt": b"0 0.5 0.5\n0 1 2 3\n"},
        {"data.yaml": DATA, "images/val/a.jpg": b"", "labels/val/a.txt": b"2147483648 0.5 0.5 0.2 0.2\n"},
        {"data.yaml": b"[" * 5000, "images/val/a.jpg": b""},
        {"data.yaml": b"names: {.inf: cat}\n", "images/val/a.jpg": b""},
    ],
)
def test_what_is_no_sample_is_refused(tmp_path: Path, files: Mapping[str, bytes]) -> None:
    with pytest.raises(SampleError, match=r"sample\.zip"):
        unpack_sample(packed(tmp_path, files), "detect", tmp_path / "images")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample.zip").write_bytes(b"nothing")
    with pytest.raises(SampleError, match="Expected a whole zip archive"):
        unpack_sample(tmp_path / "sample.zip", "detect", tmp_path / "images")

"""The validation sample of a training: a few images that show all classes, the same bytes each time."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from tasks.dataset.validation_sample import unpack_sample
from tasks.merge.pack_sample import pack_sample
from tasks.merge.steps import SAMPLE_IMAGES, MergedDataset, write_sample
from tests.paths import ROOT

NAMES = tuple(f"class {number}" for number in range(40))


def write_dataset(folder: Path, images: int) -> Path:
    """As `write_merge` leaves it; only the last images show more than class 0."""
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number in range(images):
        (folder / "images" / "val" / f"{number:03d}.jpg").write_bytes(f"pixels {number}".encode())
        class_id = max(0, number - images + len(NAMES))
        (folder / "labels" / "val" / f"{number:03d}.txt").write_text(f"{class_id} 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.1 0.1\n")
    (folder / "labels" / "val" / "000.txt").unlink()
    (folder / "data.yaml").write_text(yaml.safe_dump({"kpt_shape": [17, 3]}))
    return folder / "data.yaml"


def merged(data: Path, task: str, images: int) -> MergedDataset:
    return MergedDataset(data=data, task=task, class_names=NAMES, images={"train": 0, "val": images})


def test_every_class_is_shown_and_images_stay_as_they_are(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", 200)
    path = write_sample.fn(merged(data, "detect", 200), tmp_path)
    sample = unpack_sample(path, "detect", tmp_path / "images")
    assert path.name == "validation-sample.zip"
    assert len(sample.images) == SAMPLE_IMAGES == 64
    assert sample.class_names == NAMES
    assert {number for image in sample.images for number in image.truth.class_id.tolist()} == set(range(len(NAMES)))
    for image in sample.images:
        assert image.path.read_bytes() == (data.parent / "images" / "val" / image.name).read_bytes()


def test_a_small_split_is_taken_whole(tmp_path: Path) -> None:
    """Also an image without a label."""
    path = write_sample.fn(merged(write_dataset(tmp_path / "data", 41), "detect", 41), tmp_path)
    assert len(unpack_sample(path, "detect", tmp_path / "images").images) == 41


def test_a_tree_keeps_its_folders(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "data" / "val" / str(number)).mkdir(parents=True)
        (tmp_path / "data" / "val" / str(number) / "a.jpg").write_bytes(str(number).encode())
    path = write_sample.fn(merged(tmp_path / "data", "classify", 3), tmp_path)
    sample = unpack_sample(path, "classify", tmp_path / "images")
    assert [(image.path.read_bytes(), image.truth.class_id.tolist()) for image in sample.images] == [
        (b"0", [0]), (b"1", [1]), (b"2", [2])
    ]  # fmt: skip


def test_anybody_can_open_it_as_a_dataset(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", 3)
    pack_sample(data, "pose", NAMES, tmp_path / "x.zip", 2)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        described = yaml.safe_load(archive.read("data.yaml"))
        names = archive.namelist()
    assert (described["val"], described["kpt_shape"], described["names"][1]) == ("images/val", [17, 3], "class 1")
    assert names[1:] == ["images/val/001.jpg", "labels/val/001.txt", "images/val/002.jpg", "labels/val/002.txt"]


def test_the_same_data_gives_the_same_bytes_under_every_hash_seed(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", 100)
    code = (
        "import sys; from pathlib import Path; from tasks.merge.pack_sample import pack_sample; "
        "pack_sample(Path(sys.argv[1]), 'detect', ('a', 'b'), Path(sys.argv[2]), 64)"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, str(data), str(tmp_path / seed)], check=True, env=environment)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()

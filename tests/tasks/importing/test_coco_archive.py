"""What goes to COCO and comes back is as it was; what COCO cannot say is told."""

import math
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask
from pycocotools.coco import COCO

from tasks.importing.annotations import rotated_box
from tasks.importing.coco_archive import CocoError, write_coco
from tasks.importing.importer import import_archive
from tasks.parameters import ImportParams
from tests.tasks.importing import sources
from tests.tasks.importing.sources import HEIGHT, WIDTH

SIZE = np.array([WIDTH, HEIGHT], np.float64)
NAMES = {0: "cat", 1: "dog"}
SHARE = st.integers(1, 99).map(lambda number: number / 100)


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x, y = draw(SHARE), draw(SHARE)
    return [x, y, 2 * min(x, 1 - x) * draw(SHARE), 2 * min(y, 1 - y) * draw(SHARE)]


@st.composite
def outlines(draw: st.DrawFn) -> list[float]:
    """Corners round a centre, so that they have an area."""
    count = draw(st.integers(3, 9))
    angles = [2 * math.pi * at / count + draw(SHARE) / count for at in range(count)]
    reaches = [draw(SHARE) / 2.1 for _ in angles]
    return [0.5 + reach * axis(at) for at, reach in zip(angles, reaches, strict=True) for axis in (math.cos, math.sin)]


@st.composite
def rotated(draw: st.DrawFn) -> list[float]:
    sides = draw(SHARE) * 20 + 4, draw(SHARE) * 20 + 4
    box = rotated_box("", (WIDTH / 2, HEIGHT / 2), *sides, draw(st.integers(0, 89)))
    return [float(share) for share in (box.corners / SIZE).ravel()]


@st.composite
def poses(draw: st.DrawFn) -> list[float]:
    points = [draw(st.sampled_from([[0.0, 0.0, 0.0], [0.25, 0.5, 1.0], [0.125, 0.75, 2.0]])) for _ in range(3)]
    seen = draw(st.sampled_from([[0.5, 0.25, 2.0], [0.75, 0.25, 1.0]]))
    return [*draw(boxes()), *seen, *(number for point in points for number in point)]


SHAPES = {"detect": boxes(), "segment": outlines(), "obb": rotated(), "pose": poses()}


def yolo(task: str, labels: dict[str, list[list[float]]]) -> dict[str, bytes | str]:
    data = {"train": "images/train", "val": "images/val", "names": NAMES, "task": task}
    data |= {"kpt_shape": [4, 3]} if task == "pose" else {}
    files: dict[str, bytes | str] = {"data.yaml": yaml.safe_dump(data)}
    for seed, (split, rows) in enumerate(labels.items()):
        files[f"images/{split}/{split}.jpg"] = sources.jpeg(seed)
        text = "".join(f"{at % 2} {' '.join(map(str, row))}\n" for at, row in enumerate(rows))
        files[f"labels/{split}/{split}.txt"] = text
    return files


def read_rows(path: Path, split: str) -> list[list[float]]:
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(f"labels/{split}/{split}.txt").decode().splitlines()
    return [[float(word) for word in line.split()] for line in lines]


def to_corners(row: Sequence[float]) -> list[list[float]]:
    """In an order that does not depend on where the outline begins."""
    pixels = np.array(row[1:]).reshape(-1, 2) * SIZE
    return sorted([round(float(x), 1), round(float(y), 1)] for x, y in pixels)


@pytest.mark.parametrize("task", SHAPES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_labels_and_splits_go_to_coco_and_back(task: str, data: st.DataObject) -> None:
    rows = st.lists(SHAPES[task], min_size=1, max_size=3, unique_by=tuple)
    labels = {split: data.draw(rows) for split in ("train", "val")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = sources.write_zip(folder / "source.zip", yolo(task, labels))
        write_coco(source, folder / "coco.zip")
        import_archive(folder / "coco.zip", folder / "back.zip", ImportParams.model_validate({"task": task}), {})
        for split, before in labels.items():
            after = read_rows(folder / "back.zip", split)
            drawn = [[at % 2, *row] for at, row in enumerate(before)]
            if task == "obb":  # a rectangle is found again from its corners
                assert np.allclose([to_corners(row) for row in after], [to_corners(row) for row in drawn], atol=0.11)
            else:
                assert after == [pytest.approx(row, abs=1e-5) for row in drawn]


@pytest.mark.parametrize("flip", [[0, 2, 1, 3], None])
def test_left_and_right_points_stay_those(tmp_path: Path, flip: list[int] | None) -> None:
    pose = [0.5, 0.5, 0.5, 0.5, *[0.5, 0.5, 2.0] * 4]
    files = yolo("pose", {"train": [pose], "val": [pose]})
    if flip:
        described = yaml.safe_load(files["data.yaml"])
        files["data.yaml"] = yaml.safe_dump(described | {"flip_idx": flip})
    write_coco(sources.write_zip(tmp_path / "source.zip", files), tmp_path / "coco.zip")
    summary = import_archive(tmp_path / "coco.zip", tmp_path / "back.zip", ImportParams(), {})
    with zipfile.ZipFile(tmp_path / "back.zip") as archive:
        assert yaml.safe_load(archive.read("data.yaml")).get("flip_idx") == flip
    assert any("not mirrored" in note for note in summary.notes) == (flip is None)


def test_coco_s_own_code_reads_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    triangle = [0.25, 0.25, 0.75, 0.25, 0.25, 0.75]
    source = sources.write_zip(tmp_path / "source.zip", yolo("segment", {"train": [triangle], "val": [triangle]}))
    summary = write_coco(source, tmp_path / "coco.zip")
    assert (summary.images, summary.annotations, summary.changes) == ({"train": 1, "val": 1}, 2, {})
    with zipfile.ZipFile(tmp_path / "coco.zip") as archive:
        archive.extractall(tmp_path)
    read = COCO(tmp_path / "annotations" / "instances_train.json")
    (annotation,) = read.loadAnns(read.getAnnIds(catIds=read.getCatIds(["cat"])))
    assert (annotation["bbox"], annotation["area"]) == ([16, 12, 32, 24], 384)
    assert abs(int(mask.area(read.annToRLE(annotation))) - 384) < 30
    capsys.readouterr()


def test_what_coco_cannot_say_is_told(tmp_path: Path) -> None:
    square = [0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75]
    files = yolo("obb", {"train": [square], "val": [square]})
    source = sources.write_zip(tmp_path / "source.zip", {**files, "other/b.jpg": sources.jpeg(5)})
    assert write_coco(source, tmp_path / "coco.zip").changes == {
        "left out: an image that is in no split": 1,
        "changed: a rotated box into a polygon of four corners": 2,
    }
    with pytest.raises(CocoError, match="a new file"):
        write_coco(source, tmp_path / "coco.zip")


def test_classes_of_whole_images_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    tree: dict[str, bytes | str] = {
        f"{split}/cat/{split}.jpg": sources.jpeg(at) for at, split in enumerate(["train", "val"])
    }
    source = sources.write_zip(tmp_path / "source.zip", tree)
    with pytest.raises(CocoError, match="classes of whole images"):
        write_coco(source, tmp_path / "coco.zip")
    assert list(tmp_path.iterdir()) == [source]

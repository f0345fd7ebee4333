"""What a run leaves, as other tools load it: supervision reads coco.json and labels/, Ultralytics takes the labels."""

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.inference.results.annotator import Annotator
from tasks.inference.results.chunk_results import ChunkResultWriter, merge_chunk_results
from tasks.inference.results.image_copies import copy_image
from tasks.inference.results.parquet import schema, to_image_table, to_table
from tasks.inference.results.yolo_labels import to_label_texts
from tasks.media.images import decode_image
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb
from tests.tasks.inference.results.examples import model, picture

TASKS = "detect", "segment", "pose", "obb"


def jpeg(image: Rgb, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def drawing() -> Rgb:
    return np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)


def run(folder: Path, served: ServedModel, *found: Detections, chunk: int = 0) -> Path:
    """Work through one chunk as a worker does; what it would upload lies in `folder`."""
    painter = Annotator(folder, chunk, served.class_names, annotate=False, copies=True)
    with ChunkResultWriter(folder.parent / "parts", chunk, served, image_folder=folder) as part:
        for each in found:
            image = drawing()
            if each.frame is None:
                part.add(painter.annotate(image, each, data=jpeg(image)).detections)
            else:
                part.add(painter.copy_frame(image, each))
    return part.path


def texts(found: Detections, task: str) -> dict[str, str]:
    served, kept = model(task), replace(found, image="images/a-1.jpg")
    rows = to_table([kept], served, schema(task, tracked=False))
    return dict(to_label_texts(task, to_image_table([kept], served), rows, rows["class_id"].to_pylist()))


@pytest.mark.parametrize("task", TASKS)
def test_supervision_loads_images_and_frames_from_coco_and_from_yolo(task: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    still, nothing = picture(1, 0, source="s3://media/a b.jpg", task=task), picture(source="b.jpg", task=task)
    frames = [picture(0, source="v.mp4", frame=number, task=task) for number in (0, 5)]
    merge_chunk_results([run(folder, model(task), still, nothing, *frames)], folder)

    place, names = str(folder), ["red", "white"]
    coco = sv.DetectionDataset.from_coco(place, str(folder / "coco.json"))
    yolo = sv.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), is_obb=task == "obb"
    )
    assert coco.classes == yolo.classes == names
    assert len(coco) == len(yolo) == 4
    by_name = {Path(path).name: found for path, _, found in yolo}
    for path, image, found in coco:
        assert image.shape == (64, 128, 3)
        other = by_name[Path(path).name]
        assert len(found) == len(other)
        if len(found):
            assert np.abs(np.asarray(found.xyxy) - other.xyxy).max() <= (15 if task == "obb" else 1)
            assert np.array_equal(np.asarray(found.class_id), np.asarray(other.class_id))
    assert sum(len(found) for _, _, found in coco) == 4


def test_every_image_that_coco_names_is_there_and_other_frames_have_a_file_of_their_own(tmp_path: Path) -> None:
    """Of a film two frames are kept: a tool that opens each image of coco.json finds each, and nothing is lost."""
    folder, served = tmp_path / "run", model("detect")
    kept = [picture(0, source="v.mp4", frame=number) for number in (0, 1)]
    parts = [run(folder, served, picture(1, source="a.jpg"), *kept)]
    with ChunkResultWriter(tmp_path / "parts", 1, served, image_folder=folder) as part:
        for number in (2, 3):
            part.add(picture(0, 1, source="v.mp4", frame=number))
    merge_chunk_results([*parts, part.path], folder)
    coco = sv.DetectionDataset.from_coco(str(folder), str(folder / "coco.json"))
    assert [len(found) for _, image, found in coco if image is not None] == [1, 1, 1]
    others = json.loads((folder / "coco-frames.json").read_text())
    assert [each["file_name"] for each in others["images"]] == ["v.mp4#frame=2", "v.mp4#frame=3"]
    assert [each["image_id"] for each in others["annotations"]] == [1, 1, 2, 2]
    assert others["categories"] == json.loads((folder / "coco.json").read_text())["categories"]


@pytest.mark.parametrize("kept", [False, True])
def test_one_file_of_coco_is_enough_where_all_pictures_are_kept_or_none(tmp_path: Path, *, kept: bool) -> None:
    folder, served = tmp_path / "run", model("detect")
    found = picture(0, source="v.mp4", frame=7)
    with ChunkResultWriter(tmp_path / "parts", 0, served) as part:
        part.add(found)
    merge_chunk_results([run(folder, served, found) if kept else part.path], folder)
    (entry,) = json.loads((folder / "coco.json").read_text())["images"]
    assert (folder / entry["file_name"]).is_file() if kept else entry["file_name"] == "v.mp4#frame=7"
    assert not (folder / "coco-frames.json").exists()


@pytest.mark.parametrize("task", TASKS)
def test_ultralytics_takes_every_label(task: str, tmp_path: Path) -> None:
    from ultralytics.data.utils import check_det_dataset, verify_image_label

    folder = tmp_path / "run"
    merge_chunk_results([run(folder, model(task), picture(1, 0, 1, task=task))], folder)
    said = yaml.safe_load((folder / "data.yaml").read_text())
    assert check_det_dataset(str(folder / "data.yaml"), autodownload=False)["names"] == {0: "red", 1: "white"}
    (image,), (label,) = (folder / "images").iterdir(), (folder / "labels").iterdir()
    points, values = said.get("kpt_shape", (0, 0))
    assert (points, values) == ((2, 3) if task == "pose" else (0, 0))
    taken = verify_image_label((str(image), str(label), "", task == "pose", 2, points, values, False))
    assert len(taken[1]) == 3, taken[-1]
    assert taken[1][:, 0].tolist() == [1, 0, 1]
    assert taken[9] == ""


def test_lines_are_in_the_form_of_each_task() -> None:
    (box,) = texts(picture(1), "detect").items()
    assert box == ("labels/a-1.txt", "1 0.195312 0.625 0.234375 0.625\n")
    assert texts(picture(0, task="segment"), "segment")["labels/a-1.txt"] == (
        "0 0.078125 0.3125 0.3125 0.3125 0.078125 0.9375\n"
    )
    assert texts(picture(0, task="pose"), "pose")["labels/a-1.txt"] == (
        "0 0.195312 0.625 0.234375 0.625 0.0859375 0.34375 2 0 0 0\n"
    )
    assert len(texts(picture(0, task="obb"), "obb")["labels/a-1.txt"].split()) == 9
    assert texts(picture(), "detect") == {"labels/a-1.txt": ""}
    assert texts(picture(0), "classify") == {}


def test_an_outline_that_is_none_is_written_as_its_box() -> None:
    broken = replace(picture(0, 0, task="segment"), polygons=(np.zeros((0, 2), np.float32),) * 2)
    assert texts(broken, "segment")["labels/a-1.txt"].splitlines()[0] == (
        "0 0.078125 0.3125 0.3125 0.3125 0.3125 0.9375 0.078125 0.9375"
    )


@given(st.lists(st.tuples(*[st.floats(-500, 500, width=32)] * 4), min_size=1, max_size=5))
def test_every_number_is_a_share_of_the_picture(drawn: list[tuple[float, ...]]) -> None:
    boxes = np.sort(np.array(drawn, np.float32).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    count = len(boxes)
    found = Detections(
        width=128,
        height=64,
        xyxy=boxes,
        confidence=np.ones(count, np.float32),
        class_id=np.zeros(count, np.int32),
        source="a",
    )
    lines = texts(found, "detect")["labels/a-1.txt"].splitlines()
    numbers = np.array([line.split()[1:] for line in lines], np.float64)
    inside = np.clip(boxes / np.array([128, 64, 128, 64], np.float64), 0, 1)
    low, high = inside[:, :2], inside[:, 2:]
    assert ((numbers >= 0) & (numbers <= 1)).all()
    assert numbers == pytest.approx(np.hstack([(low + high) / 2, high - low]), abs=1e-5)


def test_labels_of_a_version_with_other_ids_are_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run(folder, model(names=("red", "white")), picture(1, source="a.jpg"))
    second = run(folder, model(names=("white", "blue"), version=8), picture(0, 1, source="b.jpg"), chunk=1)
    merge_chunk_results([first, second], folder)
    lines = {path.stem[0]: path.read_text().splitlines() for path in (folder / "labels").iterdir()}
    assert {stem: [int(line.split()[0]) for line in found] for stem, found in lines.items()} == {"a": [1], "b": [1, 2]}
    assert yaml.safe_load((folder / "data.yaml").read_text())["names"] == {0: "red", 1: "white", 2: "blue"}


def test_a_chunk_that_is_tried_again_leaves_no_label_of_the_attempt_before(tmp_path: Path) -> None:
    """Its first attempt died before it was done, and the version that answers the second finds nothing."""
    folder = tmp_path / "run"
    run(folder, model(), picture(1, source="a.jpg"))
    second = run(folder, model(version=8), picture(source="a.jpg"))
    merge_chunk_results([second], folder)
    assert [path.read_text() for path in (folder / "labels").iterdir()] == [""]


def test_a_picture_is_kept_as_it_is_and_what_others_read_otherwise_as_an_upright_jpeg(tmp_path: Path) -> None:
    image = drawing()
    plain = jpeg(image)
    kept = copy_image(tmp_path, "a.jpg", image, plain)
    assert kept.endswith(".jpg")
    assert (tmp_path / kept).read_bytes() == plain

    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg(np.ascontiguousarray(np.rot90(image)), exif=exif.tobytes())
    assert decode_image(turned).shape == image.shape
    with Image.open(tmp_path / copy_image(tmp_path, "b.jpg", decode_image(turned), turned)) as copy:
        assert copy.size == (128, 64)
        assert copy.getexif().get(0x0112, 1) == 1

    gif = io.BytesIO()
    Image.fromarray(image).save(gif, "GIF")
    path = copy_image(tmp_path, "c.gif", image, gif.getvalue())
    assert path.endswith(".jpg")
    assert np.asarray(cv2.imread(str(tmp_path / path))).shape == image.shape

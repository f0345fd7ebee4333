"""What Label Studio exports as JSON and as JSON-MIN."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.importing.documents import DocumentError
from tasks.importing.importer import ImportSummary, import_archive
from tasks.parameters import ImportParams
from tests.tasks.importing import sources

BOX = {"x": 10.0, "y": 10.0, "width": 50.0, "height": 50.0, "rotation": 0, "rectanglelabels": ["cat"]}
OF_BOX = {**BOX, "choices": ["old"]}  # a choice of each region
SIZE = {"original_width": sources.WIDTH, "original_height": sources.HEIGHT}


def imported(folder: Path, *tasks: object, names: Sequence[str] = ("1.jpg", "2.jpg")) -> ImportSummary:
    images = {name: sources.jpeg(at) for at, name in enumerate(names)}
    source = sources.write_zip(folder / "source.zip", {**images, "project-1.json": json.dumps(tasks)})
    return import_archive(source, folder / "target.zip", ImportParams(), {})


def whole(number: int, *results: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A task of JSON: only a result that lies somewhere in its image has the size of it."""
    made = [
        {"id": f"r{at}", "type": kind, "from_name": "tag", "to_name": "image", "value": value, "origin": "manual"}
        | (SIZE if "x" in value else {})
        for at, (kind, value) in enumerate(results)
    ]
    data = {"image": f"/data/upload/1/0123abcd-{number}.jpg"}
    return {"id": number, "data": data, "annotations": [{"id": number, "result": made, "was_cancelled": False}]}


def short(number: int, **answers: object) -> dict[str, object]:
    """A task of JSON-MIN: the data, its number, an answer a control, and who gave them."""
    image = {"image": f"/data/upload/1/0123abcd-{number}.jpg", "comment": "seen at 3.5 m", "id": number}
    return {**image, **answers, "annotator": 1, "annotation_id": number, "lead_time": 4.5}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"image": "/data/upload/1/0123abcd-1.jpg"}, ["pictures/0123abcd-1.jpg"]),
        ({"image": "/data/upload/1/0123abcd-1.jpg"}, ["pictures/1.jpg"]),
        ({"comment": "seen at 3.5 m", "image": "s3://store/1.jpg"}, ["1.jpg"]),
        ({"map": "map.png", "image": "/data/local-files/?d=in%20box/1.jpg"}, ["in box/1.jpg"]),
        ({"page": "https://[1.jpg", "image": "https://a.example/1.jpg?size=2"}, ["1.jpg"]),
    ],
)
def test_the_image_of_a_task_is_found(data: Mapping[str, str], names: Sequence[str], tmp_path: Path) -> None:
    """As the server names it or as it was uploaded, wherever it stands among the task's data."""
    task = whole(1, ("rectanglelabels", BOX)) | {"data": data}
    assert imported(tmp_path, task, names=names).objects == {"cat": 1}


@pytest.mark.parametrize(
    "tasks",
    [
        [whole(1, ("choices", {"choices": ["cat"]})), whole(2, ("choices", {"choices": ["dog", "old"]}))],
        [short(1, choice="cat"), short(2, choice={"choices": ["dog", "old"]})],
    ],
    ids=["json", "json-min"],
)
def test_choices_are_classes_of_images(tasks: list[object], tmp_path: Path) -> None:
    summary = imported(tmp_path, *tasks)
    assert (summary.task, summary.objects) == ("classify", {"cat": 1, "dog": 1})
    assert summary.changes == {"left out: another class of an image, after the first": 1}


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ([whole(1, ("rectanglelabels", BOX)), whole(2, ("choices", OF_BOX))], {"not kept: choice of an object": 1}),
        (
            [short(1, label=[{**BOX, **SIZE}], rating=[{"rating": 4}]), short(2, label=[], note="blurred")],
            {
                "left out: a result rating without a class": 1,
                "not kept: field note, which may be a choice or a text": 1,
            },
        ),
        (
            [short(1, label=[BOX, {**BOX, "rotation": 5}]), short(2) | {"annotation_id": None}],
            {
                "left out: a rotated shape without the size of its image (original_width)": 1,
                "left out: an image that nobody has annotated": 1,
                "left out: an image that no annotation names (see importing.background)": 1,
            },
        ),
    ],
    ids=["a choice of a region", "a text", "no sizes"],
)
def test_drawings_are_objects_whatever_else_is_told(tasks: list[object], told: dict[str, int], tmp_path: Path) -> None:
    summary = imported(tmp_path, *tasks)
    assert (summary.task, summary.objects, summary.changes) == ("detect", {"cat": 1}, told)


@pytest.mark.parametrize(
    ("kind", "drawn", "task"),
    [
        ("rectangle", {"x": 1.0, "y": 1.0, "width": 50.0, "height": 50.0, "rotation": 0}, "detect"),
        ("polygon", {"points": [[1, 1], [50, 1], [50, 50]]}, "segment"),
        ("ellipse", {"x": 50.0, "y": 50.0, "radiusX": 9.0, "radiusY": 9.0, "rotation": 0}, "segment"),
    ],
)
def test_a_drawing_whose_class_another_control_gives_is_one_object(
    kind: str, drawn: dict[str, Any], task: str, tmp_path: Path
) -> None:
    """As of `Rectangle` beside `Labels`, for texts: the drawing is there twice, under one id."""
    made = whole(1, (kind, drawn), ("labels", {**drawn, "labels": ["cat"]}))
    for result in made["annotations"][0]["result"]:
        result.update(SIZE, id="r0")
    summary = imported(tmp_path, made)
    assert (summary.task, summary.objects) == (task, {"cat": 1})
    assert not [change for change in summary.changes if change.startswith("left out: a result")]


@pytest.mark.parametrize(
    ("marked", "objects", "disagree"),
    [(None, {"cat": 1}, 1), (0, {}, 0), (2, {"dog": 1}, 0)],
    ids=["none is the ground truth", "an empty one is", "the last is"],
)
def test_of_several_annotations_the_ground_truth_or_the_first_with_objects_is_taken(
    marked: int | None, objects: dict[str, int], disagree: int, tmp_path: Path
) -> None:
    task = whole(1)
    for name in ("cat", "dog"):
        task["annotations"] += whole(1, ("rectanglelabels", {**BOX, "rectanglelabels": [name]}))["annotations"]
    for at, annotation in enumerate(task["annotations"]):
        annotation["ground_truth"] = at == marked
    summary = imported(tmp_path, task, whole(2, ("rectanglelabels", {**BOX, "rectanglelabels": ["bird"]})))
    assert summary.objects == {"bird": 1, **objects}
    told = summary.changes["left out: another annotation of an image, beside the one that is taken"]
    kind = "changed: an image that some annotators left empty has what the first of the others drew"
    assert (told, summary.changes.get(kind, 0)) == (2, disagree)


def test_two_fields_of_json_min_that_may_be_choices_or_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"\['choice', 'note'\].*Export JSON rather than JSON-MIN"):
        imported(tmp_path, short(1, choice="cat", note="blurred"))


def test_a_keypoint_has_the_same_place_in_each_image(tmp_path: Path) -> None:
    """Also where other ones of the object are missing; the places are in the order of the names."""

    def posed(number: int, *names: str) -> dict[str, object]:
        points = [("keypointlabels", {"x": 10.0, "y": 20.0, "keypointlabels": [name]}) for name in names]
        task = whole(number, ("rectanglelabels", BOX), *points)
        for result in task["annotations"][0]["result"][1:]:
            result["parentID"] = "r0"
        return task

    summary = imported(tmp_path, posed(1, "right eye", "left eye", "left eye"), posed(2, "nose", "right eye"))
    assert summary.changes == {"left out: another keypoint of the same name of an object": 1}
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        described = yaml.safe_load(archive.read("data.yaml"))
        rows = {name[-5]: archive.read(name).decode().split() for name in archive.namelist() if name.endswith(".txt")}
    assert (described["kpt_shape"], described["flip_idx"]) == ([3, 3], [2, 1, 0])
    assert {number: row[7::3] for number, row in rows.items()} == {"1": ["2", "0", "2"], "2": ["0", "2", "2"]}


def test_the_labelling_interface_beside_the_export_gives_all_classes_in_its_order(tmp_path: Path) -> None:
    """Also names that nobody has used; one that is no XML is told, and costs nothing else."""
    interface = (
        '<View><Image name="image" value="$image"/><RectangleLabels name="tag" toName="image">'
        '<Label value="dog"/><Label value="Cat" alias="cat"/></RectangleLabels></View>'
    )
    files: dict[str, bytes | str] = {
        "1.jpg": sources.jpeg(0),
        "tasks.json": json.dumps([whole(1, ("rectanglelabels", BOX))]),
    }
    for name, text, expected in (("good", interface, ("dog", "cat")), ("bad", "<!ENTITY", ("cat",))):
        source = sources.write_zip(tmp_path / f"{name}.zip", {**files, "label-config.xml": text})
        summary = import_archive(source, tmp_path / f"{name}-target.zip", ImportParams(), {})
        assert summary.class_names == expected
        assert any("cannot be read" in change for change in summary.changes) is (name == "bad")

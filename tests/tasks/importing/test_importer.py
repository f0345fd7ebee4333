"""A sample of each format becomes an archive that the check takes, the same each time, and tells what it lost."""

import json
import time
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tasks.dataset.archive import open_archive
from tasks.dataset.findings import Verdict
from tasks.dataset.label_origins import LABEL_ORIGINS, pack_label_origins
from tasks.importing import cvat
from tasks.importing.annotations import ImportLog
from tasks.importing.coco_archive import write_coco
from tasks.importing.importer import UnusableArchiveError, import_archive
from tasks.importing.report import import_markdown, import_sentence
from tasks.importing.steps import convert_archive
from tasks.merge.steps import plan_archives, valid_archive, write_merge
from tasks.parameters import ImportParams, MergePolicy, TrainingParams, ValidationPolicy
from tasks.training import steps as training_steps
from tasks.training.events import TrainedModel
from tasks.training.process import run_job
from tasks.validation.dataset_check import inspect_dataset
from tasks.validation.image_stats_io import pack_image_stats
from tests.tasks.dataset.archives import Content, zipped
from tests.tasks.importing import sources
from tests.tasks.importing.sources import SOURCES, Box
from tests.tasks.validation.sound import by_model, made, sound

IMAGES = {
    f"{number}.jpg": [Box("cat", 4, 4, 30, 40), Box("dog", 30, 8, 60, 44)][: 1 + number % 2] for number in range(20)
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_sample_of_each_format_becomes_a_valid_archive(name: str, tmp_path: Path) -> None:
    kind, write = SOURCES[name]
    source = sources.write_zip(tmp_path / "source.zip", write(IMAGES))
    for target in ("one.zip", "two.zip"):
        summary = import_archive(source, tmp_path / target, ImportParams(), {"source": "s3://datasets/a.zip"})
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert not [change for change in summary.changes if change.startswith(("left out", "changed"))]
    assert (summary.format, summary.images, summary.objects) == (kind, {"train": 16, "val": 4}, {"cat": 20, "dog": 10})

    report = inspect_dataset(tmp_path / "one.zip", "one.zip", "", ValidationPolicy(), lambda *_: None).report
    assert report.counts == {"class-few": 1}  # 8 dogs in train
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        told = json.loads(archive.read("provenance.json"))
    assert (told["source"], len(told["images"]), told["format"]) == ("s3://datasets/a.zip", 20, kind)


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (
            "voc",
            "</bndbox>",
            "</bndbox><deleted>0</deleted><actions><run>1</run></actions><attributes><attribute><name>red</name></attribute></attributes>",
            ["actions of an object", "attribute red"],
        ),
        (
            "coco",
            '"iscrowd": 0',
            '"area": 9, "score": 0.5, "track_id": 3',
            ["score of an object", "track_id of an object"],
        ),
    ],
)
def test_fields_of_an_object_that_nothing_reads_are_told_by_their_names(
    name: str, old: str, new: str, told: list[str], tmp_path: Path
) -> None:
    files = SOURCES[name][1]({"a.jpg": [Box("cat", 4, 4, 30, 40)]})
    changed = {entry: text.replace(old, new) if isinstance(text, str) else text for entry, text in files.items()}
    source = sources.write_zip(tmp_path / "source.zip", changed)
    summary = import_archive(source, tmp_path / "made.zip", ImportParams(), {})
    assert summary.changes == {f"not kept: {each}": 1 for each in told}


OCCLUDED = '"iscrowd": 0', '"iscrowd": 0, "attributes": {"occluded": true}', "not kept: attribute occluded"
# What no YOLO label can say, written into each sample: a text, what it becomes, and what is told of it.
LOSSES = {
    "coco": OCCLUDED,
    "voc": ("</bndbox>", "</bndbox><difficult>1</difficult>", "not kept: flag difficult"),
    "voc of a challenge": ("</bndbox>", "</bndbox><truncated>1</truncated>", "not kept: flag truncated"),
    "cvat": ("<box ", '<box occluded="1" ', "not kept: flag occluded"),
    "label studio": ('["cat"]', '["cat", "dog"]', "left out: another class of an object, after the first"),
    "labelme": ('"rectangle"', '"rectangle", "flags": {"blurred": true}', "not kept: flag blurred"),
    "open images": (",0,0,0", ",1,0,0", "not kept: flag IsOccluded"),
    "datumaro": ('"bbox",', '"bbox", "attributes": {"occluded": true},', "not kept: attribute occluded"),
    "kitti": (" 0 0 0 ", " 0 0 0 ", "not kept: the box in space (size, place, angle)"),
    "coco polygons": OCCLUDED,
    "coco run lengths": OCCLUDED,
    "coco keypoints": OCCLUDED,
}
TASKS = {"coco polygons": "segment", "coco run lengths": "segment", "coco keypoints": "pose"}
MODELS = {"detect": "yolo11n.yaml", "segment": "yolo11n-seg.yaml", "pose": "yolo11n-pose.yaml"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*SOURCES, *TASKS])
def test_a_sample_of_each_format_is_imported_checked_and_trained_on(name: str, tmp_path: Path) -> None:
    """By the steps of the three flows; `-s` prints the seconds of each."""
    write = getattr(sources, name.replace(" ", "_")) if name in TASKS else SOURCES[name][1]
    old, new, lost = LOSSES.get(name, ("", "", ""))
    files = {entry: text.replace(old, new) if isinstance(text, str) else text for entry, text in write(IMAGES).items()}
    source, path = sources.write_zip(tmp_path / "source.zip", files), tmp_path / "imported.zip"
    times = [time.perf_counter()]
    summary = convert_archive.fn(source, path, ImportParams(), "", "")
    times.append(time.perf_counter())
    seen = inspect_dataset(path, path.name, "0" * 64, ValidationPolicy())
    times.append(time.perf_counter())
    archive = valid_archive(path.name, path, seen.report, pack_image_stats(seen.images))
    merged = write_merge.fn([archive], plan_archives.fn([archive], MergePolicy()), tmp_path / "merged")
    params = TrainingParams(epochs=1, imgsz=64, batch=4, device="cpu")
    told: list[object] = []
    job = training_steps.training_job(merged.data, merged.task, MODELS[merged.task], params, tmp_path / "training")
    run_job(job, told.extend)
    times.append(time.perf_counter())
    (model,) = [message for message in told if isinstance(message, TrainedModel)]
    print(name, [f"{after - before:.1f} s" for before, after in pairwise(times)], dict(summary.changes))

    assert not seen.report.findings or seen.report.counts == {"class-few": 1}
    assert set(summary.changes) == ({lost} if lost else set())
    assert (model.task, model.class_names, model.scores.images) == (TASKS.get(name, "detect"), ("cat", "dog"), 4)


def test_an_image_that_several_files_list_has_the_labels_of_the_first_that_has_any(tmp_path: Path) -> None:
    """As COCO and Datumaro write them: image_info, instances, stuff. The first object is a crowd region."""
    files = sources.coco(IMAGES)
    (name,) = [entry for entry in files if entry.endswith(".json")]
    document = json.loads(files[name])
    document["annotations"][0]["iscrowd"] = 1
    files[name] = files["annotations/stuff_default.json"] = json.dumps(document)
    bare = json.dumps(document | {"annotations": []})
    source = sources.write_zip(tmp_path / "source.zip", {"annotations/image_info_default.json": bare, **files})
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(), {})
    assert summary.objects == {"cat": 19, "dog": 10}
    assert summary.changes == {
        "left out: a crowd region (iscrowd), which is no single object": 2,
        "left out: annotations of an image that has some already": 29,
        "left out: an image of whose objects none became a label": 1,
    }


PUT = "changed: an object is put to those that another list has of its image"
REPEATED = "left out: annotations of an image that has some already"


@pytest.mark.parametrize(
    ("other", "objects", "told"),
    [
        ({"category": "dog"}, {"cat": 1, "dog": 1}, PUT),
        ({"bbox": [30, 1, 9, 9]}, {"cat": 2}, PUT),
        ({}, {"cat": 1}, REPEATED),
        ({"keypoints": [1, 1, 2]}, {"cat": 1}, REPEATED),
        ({"width": 32}, {}, "left out: an image that is listed several times, with different sizes"),
    ],
    ids=["another class", "another object", "the same", "another kind", "another size"],
)
def test_labels_that_another_file_has_of_an_image_do_not_become_its_background(
    other: dict[str, Any], objects: dict[str, int], told: str, tmp_path: Path
) -> None:
    def listed(name: str, category: str = "cat", width: int = 64, **more: object) -> str:
        image = {"id": 1, "file_name": name, "width": width, "height": 48}
        box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], **more}
        document = {"images": [image], "categories": [{"id": 1, "name": category}], "annotations": [box]}
        return json.dumps(document)

    files: dict[str, bytes | str] = {"a.jpg": sources.jpeg(0), "b.jpg": sources.jpeg(1), "1.json": listed("a.jpg")}
    files |= {"2.json": listed("a.jpg", **other), "3.json": listed("b.jpg", "cow")}
    source = sources.write_zip(tmp_path / "source.zip", files)
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(background=True), {})
    assert (summary.objects, sum(summary.images.values())) == ({**objects, "cow": 1}, 1 + bool(objects))
    assert summary.changes[told] == 1


@pytest.mark.parametrize(
    ("places", "folder", "objects", "lost"),
    [
        (["cam1/", "cam2/"], "cam2/", {"cat": 2}, 1),
        (["cam1/", "cam2/"], "", {}, 3),
        (["", "cam2/"], "", {"dog": 1}, 2),
    ],
    ids=["of a folder", "of either folder", "of no folder"],
)
def test_labels_of_an_image_that_is_missing_go_onto_no_other_image(
    places: list[str], folder: str, objects: dict[str, int], lost: int, tmp_path: Path
) -> None:
    """Two folders have an image of the same name, with one dog and two cats; one of the images is there."""
    dog, cat = [Box("dog", 1, 1, 9, 9)], [Box("cat", 1, 1, 9, 9)] * 2
    first, second = places
    listed = sources.coco({f"{first}0.jpg": dog, f"{second}0.jpg": cat})["annotations/instances_default.json"]
    beside = {
        f"{place}0.json": sources.labelme({"0.jpg": boxes})["0.json"]
        for place, boxes in zip(places, (dog, cat), strict=True)
    }
    for kind, annotations in (("coco", {"instances.json": listed}), ("labelme", beside)):
        more = sources.SOURCES[kind][1]({"more.jpg": [Box("bird", 1, 1, 9, 9)]})
        files = {**more, **annotations, f"{folder}0.jpg": sources.jpeg(1)}
        source = sources.write_zip(tmp_path / f"{kind}.zip", files)
        summary = import_archive(source, tmp_path / f"{kind}-yolo.zip", ImportParams(), {})
        assert summary.objects == {"bird": 1, **objects}
        assert summary.changes["left out: annotations of an image that is not in the archive"] == lost


def test_what_is_lost_is_told_by_kind_with_count_and_place(tmp_path: Path) -> None:
    files = sources.cvat({"a.jpg": [Box("cat", 4, 4, 30, 40)] * 3})
    xml = files["annotations.xml"]
    assert isinstance(xml, str)
    line = '<polyline label="cat" points="1,1;2,2"/><box label="cat" xtl="50" ytl="4" xbr="90" ybr="9" occluded="1"/>'
    files["annotations.xml"] = xml.replace("</image>", f"{line}</image>")
    source = sources.write_zip(tmp_path / "source.zip", {**files, "notes.md": "mine"})
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(), {})

    assert import_sentence("a.zip", summary) == (
        "a.zip: 1 images, 4 labels of 1 classes, from cvat; 2 left out, 1 not kept, 1 changed"
    )
    page = import_markdown("a.zip", summary, "a.zip: valid.", "http://page")
    assert "**1** a polyline, which YOLO has no labels for (a.jpg)" in page
    assert "(notes.md)" in page
    assert "## Changed" in page
    assert "**1** flag occluded" in page


# What makes a dog into something that no label can be made of: a text, and what it becomes.
LOST = {
    "coco": ('"category_id": 4', '"category_id": []'),
    "cvat": ('<box label="dog"', '<polyline label="dog"'),
    "label studio": ('"rectanglelabels": ["dog"]', '"rectanglelabels": []'),
    "labelme": ('"dog", "shape_type": "rectangle"', '"dog", "shape_type": "line"'),
    "voc": ("<name>dog</name>", "<name></name>"),
    "datumaro": ('"label_id": 1', '"label_id": 9'),
    "kitti": ("dog 0 0 0", "DontCare 0 0 0"),
    "open images": ("x,/m/1,", "x,,"),
    "yolo": ("1 0.171875", "1 none"),
}


@pytest.mark.parametrize("name", LOST)
def test_an_image_whose_objects_are_all_lost_does_not_become_background(name: str, tmp_path: Path) -> None:
    old, new = LOST[name]
    images = {
        "a.jpg": [Box("cat", 1, 1, 21, 21)],
        "b.jpg": [Box("dog", 1, 1, 21, 21)],
        "c.jpg": [Box("cat", 70, 1, 90, 9)],
    }
    files = {
        entry: text.replace(old, new) if isinstance(text, str) else text
        for entry, text in SOURCES[name][1](images).items()
    }
    source = sources.write_zip(tmp_path / "source.zip", files)
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(), {})
    assert (summary.images, summary.objects) == ({"train": 1}, {"cat": 1})
    assert summary.changes["left out: an image of whose objects none became a label"] == 2


def test_classes_of_whole_images_have_a_folder_each(tmp_path: Path) -> None:
    names = ["C++", "C#", "c_", "C++", "plain"]
    lines = [
        f'<image name="{at}.jpg" width="64" height="48"><tag label="{name}"/></image>' for at, name in enumerate(names)
    ]
    files: dict[str, bytes | str] = {f"{at}.jpg": sources.jpeg(at) for at in range(len(names))}
    files["annotations.xml"] = f"<annotations>{''.join(lines)}</annotations>"
    source = sources.write_zip(tmp_path / "source.zip", files)
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(), {})
    assert summary.objects == {"C++": 2, "C#": 1, "c_": 1, "plain": 1}
    kind = "changed: the name of a class, which its folder cannot have"
    assert (summary.changes, summary.places[kind]) == ({kind: 3}, ["C++: C_", "C#: C_-2", "c_: c_-3"])
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        written = {Path(name).stem: Path(name).parent.name for name in archive.namelist() if name.endswith("jpg")}
    assert written == {"0": "C_", "1": "C_-2", "2": "c_-3", "3": "C_", "4": "plain"}


def test_labels_of_kitti_are_those_of_the_left_camera(tmp_path: Path) -> None:
    files = sources.kitti({"a.jpg": [Box("cat", 4, 4, 30, 40)]})
    others = {f"{place}/a.jpg": sources.jpeg(9) for place in ("training/image_3", "testing/image_2")}
    source = sources.write_zip(tmp_path / "source.zip", {**files, **others})
    import_archive(source, tmp_path / "target.zip", ImportParams(), {})
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        assert [*json.loads(archive.read("provenance.json"))["images"].values()] == ["training/image_2/a.jpg"]


def test_a_class_of_kitti_that_has_a_blank_is_told_and_moves_no_column(tmp_path: Path) -> None:
    files = sources.kitti({"a.jpg": [Box("cat", 4, 4, 30, 40), Box("Person sitting", 4, 4, 30, 40)]})
    source = sources.write_zip(tmp_path / "source.zip", files)
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(), {})
    assert summary.objects == {"cat": 1}
    assert summary.changes["left out: a line that is not of KITTI (a class without blanks, and 14 numbers)"] == 1


def test_labels_whose_name_several_images_have_are_told_as_such(tmp_path: Path) -> None:
    files = sources.coco({name: [Box("cat", 4, 4, 30, 40)] for name in ("a.jpg", "b.jpg")})
    source = sources.write_zip(tmp_path / "source.zip", {**files, "other/a.jpg": sources.jpeg(9)})
    summary = import_archive(source, tmp_path / "target.zip", ImportParams(), {})
    assert summary.objects == {"cat": 1}
    assert summary.changes["left out: annotations of an image whose name several images have"] == 1


def test_a_new_split_keeps_near_duplicates_and_groups_together(tmp_path: Path) -> None:
    """Five clips of four frames, and each frame of the first clip once more, a little brighter."""
    images = {f"clip{number % 5}-{number // 5}.jpg": [Box("cat", 4, 4, 30, 40)] for number in range(20)}
    files = sources.coco(images | {f"again-{number}.jpg": [Box("cat", 4, 4, 30, 40)] for number in range(4)})
    for number in range(4):
        data = files[f"images/default/clip0-{number}.jpg"]
        assert isinstance(data, bytes)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        brighter = cv2.imencode(".jpg", cv2.convertScaleAbs(picture, beta=2))[1]
        files[f"images/default/again-{number}.jpg"] = bytes(brighter)
    source = sources.write_zip(tmp_path / "source.zip", files)
    params = ImportParams.model_validate({"split": "new", "groups": ["clip{group}-*.jpg"]})
    import_archive(source, tmp_path / "target.zip", params, {})
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        entries = [name.split("/") for name in archive.namelist() if name.startswith("images/")]
    places: dict[str, set[str]] = {}
    for _, split, name in entries:
        places.setdefault(name.replace("again", "clip0").partition("-")[0], set()).add(split)
    assert len(places) == 5
    assert {len(splits) for splits in places.values()} == {1}
    assert set.union(*places.values()) == {"train", "val"}


@pytest.mark.parametrize(
    ("subsets", "background", "counts"),
    [
        ({"train": 4, "val": 2, "test": 3, "": 1}, 0, {"train": 5, "val": 2, "test": 3}),
        ({"train": 4, "val": 2}, 10, {"train": 4 + 8, "val": 2 + 2}),
        ({"train": 10, "test": 3}, 0, {"train": 8, "val": 2, "test": 3}),
        ({"test": 10}, 0, {"train": 8, "val": 2}),
        ({"train": 10}, 0, {"train": 8, "val": 2}),
    ],
    ids=["an image without a split", "background", "no val", "nothing but test", "nothing but train"],
)
def test_splits_of_the_source_stay_and_the_rest_is_placed(
    subsets: dict[str, int], background: int, counts: dict[str, int], tmp_path: Path
) -> None:
    files: dict[str, bytes | str] = {
        f"background/{number}.jpg": sources.jpeg(1000 + number) for number in range(background)
    }
    for subset, count in subsets.items():
        own = sources.coco({f"{subset}{number}.jpg": [Box("cat", 4, 4, 30, 40)] for number in range(count)})
        files[f"instances_{subset}.json"] = own.pop("annotations/instances_default.json")
        files |= {name: sources.jpeg(len(files) + at) for at, name in enumerate(own)}
    source = sources.write_zip(tmp_path / "source.zip", files)
    params = ImportParams(background=bool(background))
    summary = import_archive(source, tmp_path / "target.zip", params, {})
    assert summary.images == counts
    with zipfile.ZipFile(tmp_path / "target.zip") as archive:
        told = json.loads(archive.read("provenance.json"))["images"]
    kept = {entry.split("/")[1] for entry, original in told.items() if original.startswith("images/default/test")}
    assert kept <= {"test"} or set(subsets) == {"test"}


def test_poses_of_an_archive_without_keypoints_are_refused(tmp_path: Path) -> None:
    source = sources.write_zip(tmp_path / "source.zip", sources.coco(IMAGES))
    with pytest.raises(UnusableArchiveError, match="Expected keypoints, for task pose"):
        import_archive(source, tmp_path / "made.zip", ImportParams(task="pose"), {})


def test_poses_of_more_keypoints_than_an_archive_may_have_are_refused(tmp_path: Path) -> None:
    files = sources.coco({"a.jpg": [Box("cat", 4, 4, 30, 40)]}, lambda _: {"keypoints": [9, 9, 2] * 1001})
    source = sources.write_zip(tmp_path / "source.zip", files)
    with pytest.raises(UnusableArchiveError, match="at most 1,000 keypoints for an object, found 1,001"):
        import_archive(source, tmp_path / "made.zip", ImportParams(), {})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (" ", "left out: an object of a class without a name"),
        ("a\x07b", "left out: an object of a class whose name is no valid text"),
        ("\ud800", "left out: an object of a class whose name is no valid text"),
    ],
    ids=["blank", "bell", "half a character"],
)
def test_a_class_that_no_archive_can_name_costs_its_objects_alone(name: str, told: str, tmp_path: Path) -> None:
    boxes = {f"{at}.jpg": [Box("cat", 4, 4, 30, 40), Box(name, 8, 8, 20, 30)] for at in range(4)}
    source = sources.write_zip(tmp_path / "source.zip", sources.coco(boxes))
    summary = import_archive(source, tmp_path / "made.zip", ImportParams(), {})
    assert (summary.objects, summary.changes[told]) == ({"cat": 4}, 4)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("voc", "<width>64", "<width>0.5"), ("cvat", 'width="64', 'width="-64'), ("datumaro", "48, 64", "0, 64")],
)
def test_an_image_of_a_size_that_none_has_has_that_of_its_file(name: str, old: str, new: str, tmp_path: Path) -> None:
    files = SOURCES[name][1]({"a.jpg": [Box("cat", 4, 4, 30, 40)]})
    changed = {entry: text.replace(old, new) if isinstance(text, str) else text for entry, text in files.items()}
    source = sources.write_zip(tmp_path / "source.zip", changed)
    summary = import_archive(source, tmp_path / "made.zip", ImportParams(), {})
    assert (summary.objects, summary.changes) == (
        {"cat": 1},
        {"changed: an image whose width or height is not right has those of its file": 1},
    )


@pytest.mark.parametrize(
    ("written", "subset", "told"),
    [("Train", "train", 0), ("Validation", "val", 0), ("../../evil", "", 1), ("default", "", 0)],
)
def test_a_subset_of_cvat_is_one_of_ours_or_none(written: str, subset: str, told: int, tmp_path: Path) -> None:
    text = sources.cvat({"a.jpg": [Box("cat", 4, 4, 30, 40)]})["annotations.xml"]
    assert isinstance(text, str)
    with_subset = text.replace('name="a.jpg"', f'name="a.jpg" subset="{written}"')
    path = sources.write_zip(tmp_path / "source.zip", {"annotations.xml": with_subset, "a.jpg": sources.jpeg(0)})
    log = ImportLog()
    archive, _ = open_archive(path, ValidationPolicy())
    assert archive
    with archive:
        (image,) = cvat.read(archive, ["annotations.xml"], log)
    assert (image.subset, log.counts["changed: a subset that is none of train, val and test"]) == (subset, told)


def write(path: Path, entries: Mapping[str, Content]) -> Path:
    path.write_bytes(zipped(entries))
    return path


@pytest.mark.parametrize("split", ["keep", "new"])
def test_images_that_a_model_has_labelled_stay_so_and_are_in_train(split: str, tmp_path: Path) -> None:
    """From YOLO, and through COCO and back: under other names, and never in a split that is measured on."""
    entries = sound()
    images = [f"images/train/{seed}.jpg" for seed in range(4)]
    entries[LABEL_ORIGINS] = pack_label_origins(by_model(image, row=row) for image in images for row in (0, 2))
    params = ImportParams.model_validate({"split": split, "format": "yolo"})
    written = import_archive(write(tmp_path / "a.zip", entries), tmp_path / "b.zip", params, {})
    assert (written.changes, written.images["train"] >= 4) == ({}, True)
    write_coco(tmp_path / "b.zip", tmp_path / "coco.zip")
    import_archive(tmp_path / "coco.zip", tmp_path / "c.zip", ImportParams.model_validate({"split": split}), {})
    for name in ("b.zip", "c.zip"):
        report = inspect_dataset(tmp_path / name, name, "0" * 64, ValidationPolicy()).report
        assert report.statistics.origins
        assert report.statistics.origins.images["model"] == 4
        assert report.verdict is not Verdict.INVALID, report.findings


@pytest.mark.parametrize(
    ("name", "origins", "told"),
    [
        (LABEL_ORIGINS, b"PAR1", "origins of the labels that are there"),
        (
            LABEL_ORIGINS,
            pack_label_origins([by_model("train/images/0.jpg", row=0)]),
            "images of its rows.*train/images/0",
        ),
        (f"meta/{LABEL_ORIGINS}", pack_label_origins([by_model("images/train/0.jpg")]), "at the top of the archive"),
        (LABEL_ORIGINS.upper(), pack_label_origins([by_model("images/train/0.jpg")]), "at the top of the archive"),
    ],
    ids=["broken", "of other files", "in a folder", "in capitals"],
)
def test_origins_that_say_nothing_of_these_images_are_refused(
    name: str, origins: bytes, told: str, tmp_path: Path
) -> None:
    """Labels of a model would become those of a person."""
    archive = write(tmp_path / "a.zip", sound() | {name: origins})
    with pytest.raises(UnusableArchiveError, match=told):
        import_archive(archive, tmp_path / "b.zip", ImportParams(), {})
    report = inspect_dataset(archive, "a.zip", "0" * 64, ValidationPolicy()).report
    assert "label-origins-broken" in {finding.code for finding in report.findings}


def test_an_image_of_val_that_a_model_has_labelled_goes_to_train_and_is_told(tmp_path: Path) -> None:
    entries = made([by_model("images/val/5.jpg")])
    written = import_archive(write(tmp_path / "a.zip", entries), tmp_path / "b.zip", ImportParams(), {})
    assert written.images == {"train": 6, "val": 2}
    assert written.changes == {"changed: an image that a model has labelled is in train, not measured on": 1}

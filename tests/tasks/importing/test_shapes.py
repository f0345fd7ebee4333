"""Polygons, rotated boxes and keypoints of each format that has them come out where they were drawn."""

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StudioError
from tasks.importing.importer import UnusableArchiveError, import_archive
from tasks.parameters import ImportParams
from tests.tasks.importing.sources import HEIGHT, WIDTH, jpeg, write_zip
from tests.tasks.importing.test_round_trip import imported

Files = dict[str, bytes | str]
Points = Sequence[tuple[float, float]]
SHARES = 100 / WIDTH, 100 / HEIGHT  # of Label Studio, for each pixel
CORNERS = st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT))


class Turned:
    """A rotated box, which lies in the image whatever its angle."""

    def __init__(self, x: int, y: int, width: int, height: int, degrees: int) -> None:
        self.x, self.y, self.width, self.height, self.degrees = x, y, width, height, degrees

    def corners(self) -> list[complex]:
        turn = complex(math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees)))
        sides = [complex(x * self.width, y * self.height) / 2 for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        return [complex(self.x, self.y) + side * turn for side in sides]


TURNED = st.builds(
    Turned, st.integers(20, 44), st.integers(20, 28), st.integers(4, 20), st.integers(4, 20), st.integers(1, 179)
)


def xml(image: str, label: str = "") -> Files:
    opened = f'<image name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{image}</image>'
    return {"annotations.xml": f"<annotations>{label}{opened}</annotations>", "a.jpg": jpeg(0)}


def voc(shape: str) -> Files:
    item = f"<object><name>cat</name>{shape}</object>"
    return {"a.xml": f"<annotation><filename>a.jpg</filename>{item}</annotation>", "a.jpg": jpeg(0)}


def label_studio(*results: tuple[str, dict[str, Any]]) -> Files:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    items = [
        {"type": kind, "id": str(at), "parentID": "0" if at else None, **size, "value": value}
        for at, (kind, value) in enumerate(results)
    ]
    return {"a.json": json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": items}]}]), "a.jpg": jpeg(0)}


def datumaro(*annotations: dict[str, Any]) -> Files:
    item = {
        "id": "a",
        "image": {"path": "a.jpg", "size": [HEIGHT, WIDTH]},
        "annotations": [{"label_id": 0, **annotation} for annotation in annotations],
    }
    document = {"categories": {"label": {"labels": [{"name": "cat"}]}}, "items": [item]}
    return {"annotations/default.json": json.dumps(document), "a.jpg": jpeg(0)}


def labelme(points: Points, kind: str = "polygon") -> Files:
    shapes = [{"label": "cat", "shape_type": kind, "points": points}]
    document = {"imagePath": "a.jpg", "imageWidth": WIDTH, "imageHeight": HEIGHT, "shapes": shapes}
    return {"a.json": json.dumps(document), "a.jpg": jpeg(0)}


def shares(x: float, y: float) -> list[float]:
    return [x * SHARES[0], y * SHARES[1]]


def turned_by_label_studio(box: Turned) -> Files:
    """It turns a box round its corner, so that is the only one which it names."""
    corner = box.corners()[0]
    sides = {"width": box.width * SHARES[0], "height": box.height * SHARES[1], "rotation": box.degrees}
    x, y = shares(corner.real, corner.imag)
    return label_studio(("rectanglelabels", {"x": x, "y": y, **sides, "rectanglelabels": ["cat"]}))


def turned_by_cvat(box: Turned) -> Files:
    left, top = box.x - box.width / 2, box.y - box.height / 2
    corners = f'xtl="{left}" ytl="{top}" xbr="{left + box.width}" ybr="{top + box.height}"'
    return xml(f'<box label="cat" {corners} rotation="{box.degrees}"/>')


def turned_by_rolabelimg(box: Turned) -> Files:
    values = {"cx": box.x, "cy": box.y, "w": box.width, "h": box.height, "angle": math.radians(box.degrees)}
    return voc(f"<robndbox>{''.join(f'<{name}>{value}</{name}>' for name, value in values.items())}</robndbox>")


ROTATED: Mapping[str, Callable[[Turned], Files]] = {
    "cvat": turned_by_cvat,
    "label studio": turned_by_label_studio,
    "voc": turned_by_rolabelimg,
    "labelme": lambda box: labelme([(each.real, each.imag) for each in box.corners()], "oriented_rectangle"),
    "datumaro": lambda box: datumaro(
        {"type": "rotated_bbox", "cx": box.x, "cy": box.y, "w": box.width, "h": box.height, "r": box.degrees}
    ),
}
OUTLINES: Mapping[str, Callable[[Points], Files]] = {
    "cvat": lambda points: xml(f'<polygon label="cat" points="{";".join(f"{x},{y}" for x, y in points)}"/>'),
    "label studio": lambda points: label_studio(
        ("polygonlabels", {"points": [shares(*point) for point in points], "polygonlabels": ["cat"]})
    ),
    "labelme": labelme,
    "datumaro": lambda points: datumaro({"type": "polygon", "points": [axis for point in points for axis in point]}),
    "voc": lambda points: voc(
        f"<polygon>{''.join(f'<x{at}>{x}</x{at}><y{at}>{y}</y{at}>' for at, (x, y) in enumerate(points, 1))}</polygon>"
    ),
}


def cvat_pose(points: Points) -> Files:
    names = [f"p{at}" for at in range(len(points))]
    labels = "".join(f"<label><name>{name}</name><parent>cat</parent></label>" for name in names)
    drawn = "".join(
        f'<points label="{name}" outside="0" occluded="0" points="{x},{y}"/>'
        for name, (x, y) in reversed(list(zip(names, points, strict=True)))  # in another order than the label has
    )
    return xml(f'<skeleton label="cat">{drawn}</skeleton>', f"<meta><labels>{labels}</labels></meta>")


def label_studio_pose(points: Points) -> Files:
    (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
    x, y = shares(left, top)
    sides = {"width": (right - left) * SHARES[0], "height": (bottom - top) * SHARES[1]}
    box = ("rectanglelabels", {"x": x, "y": y, **sides, "rectanglelabels": ["cat"]})
    return label_studio(
        box,
        *(
            ("keypointlabels", {"x": shares(*point)[0], "y": shares(*point)[1], "keypointlabels": [f"p{at}"]})
            for at, point in enumerate(points)
        ),
    )


POSES: Mapping[str, Callable[[Points], Files]] = {"cvat": cvat_pose, "label studio": label_studio_pose}


def pixels(numbers: Sequence[float]) -> list[complex]:
    return [complex(x * WIDTH, y * HEIGHT) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def only_row(files: Files, task: str) -> list[float]:
    _, labels, _ = imported(files, task=task)
    ((row,),) = labels.values()
    return [float(word) for word in row.split()[1:]]


@pytest.mark.parametrize("name", ROTATED)
@settings(max_examples=20, deadline=None)
@given(box=TURNED)
def test_a_rotated_box_comes_out_where_it_was_drawn(name: str, box: Turned) -> None:
    assert pixels(only_row(ROTATED[name](box), "obb")) == pytest.approx(box.corners(), abs=0.001)


@pytest.mark.parametrize("name", OUTLINES)
@settings(max_examples=20, deadline=None)
@given(points=st.lists(CORNERS, min_size=3, max_size=8, unique=True))
def test_a_polygon_comes_out_where_it_was_drawn(name: str, points: list[tuple[float, float]]) -> None:
    if np.linalg.matrix_rank(np.subtract(points, points[0])) == 2:  # not all on one line
        assert pixels(only_row(OUTLINES[name](points), "segment")) == pytest.approx([complex(*each) for each in points])


@pytest.mark.parametrize("name", POSES)
@settings(max_examples=20, deadline=None)
@given(points=st.lists(CORNERS, min_size=3, max_size=3, unique=True))
def test_keypoints_come_out_where_they_were_drawn(name: str, points: list[tuple[float, float]]) -> None:
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    if (high > low).all():
        row = only_row(POSES[name](points), "pose")
        assert pixels([*row[4:6], *row[7:9], *row[10:12]]) == pytest.approx([complex(*each) for each in points])
        assert (row[6], row[9], row[12]) == (2, 2, 2)
        assert pixels(row[:4])[0] == pytest.approx(complex(*(low + high) / 2))


def test_keypoints_that_are_not_kept_are_told() -> None:
    point = ("keypointlabels", {"x": 50, "y": 50, "keypointlabels": ["p0"]})
    turned = {"x": 20, "y": 20, "width": 20, "height": 20, "rotation": 5, "rectanglelabels": ["cat"]}
    summary, _, _ = imported(label_studio(("rectanglelabels", turned), point))
    assert summary.changes == {"left out: a keypoint that belongs to no upright box (parentID)": 1}


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("{}", lambda kind: labelme([(1, 2)], kind)),
        ("{}labels", lambda kind: label_studio((f"{kind}labels", {"labels": ["cat"]}))),
        ("{}", lambda kind: datumaro({"type": kind})),
    ],
    ids=["labelme", "label studio", "datumaro"],
)
def test_what_cannot_be_a_shape_is_told_with_the_reason(kind: str, files: Callable[[str], Files]) -> None:
    """Too few corners, and a kind of drawing that is not known, in an image that is left out with its only object."""
    for name, reason in (("polygon", " whose numbers are not right"), ("spiral", ", which YOLO has no labels for")):
        with pytest.raises(UnusableArchiveError, match=f"once left out: a {kind.format(name)}{reason}"):
            imported(files(name))


BOX = "0.5 0.5 0.2 0.2"


def yolo(files: Mapping[str, str]) -> Files:
    """Label files and lists of names by their entries, with an image beside each label file."""
    return {**files, **{f"{name[:-4]}.jpg": jpeg(at) for at, name in enumerate(files) if "classes" not in name}}


@pytest.mark.parametrize(
    ("files", "rows"),
    [
        (yolo({"classes.txt": "cat\n\ndog\n", "a.txt": f"2 {BOX}"}), {"a": "dog"}),
        (yolo({"classes.txt": "cat\n\ndog\n", "a.txt": f"1 {BOX}"}), {"a": "class 1"}),
        (
            yolo(
                {
                    "1/classes.txt": "cat\ndog",
                    "1/x/a.txt": f"0 {BOX}",
                    "2/classes.txt": "dog\ncat",
                    "2/b.txt": f"0 {BOX}",
                }
            ),
            {"a": "cat", "b": "dog"},
        ),
        (yolo({"names/classes.txt": "cat\ndog", "2/b.txt": f"1 {BOX}"}), {"b": "dog"}),
    ],
    ids=["an empty line", "a class without a name", "a list for each folder", "the only list"],
)
def test_a_class_of_a_yolo_file_has_the_name_of_its_line_in_the_nearest_list(
    files: Files, rows: dict[str, str]
) -> None:
    _, labels, names = imported(files)
    assert {stem: names[int(row.split()[0])] for stem, (row,) in labels.items()} == rows


def test_lists_of_another_machine_and_of_darknet_tell_the_splits() -> None:
    files = yolo({f"labels/{at}.txt": f"0 {BOX}" for at in range(4)})
    paths = {"names": ["cat"], "train": "train.txt", "val": "val.txt"}
    lists = {"train.txt": "/home/x/labels/0.jpg\n", "val.txt": "data/obj_train_data/1.jpg\nC:\\x\\2.jpg\nlost.jpg\n"}
    summary, _, _ = imported({**files, **lists, "data.yaml": yaml.safe_dump(paths)})
    assert summary.images["val"] >= 2
    assert summary.changes == {"not kept: a name in the list of val that no image has": 1}
    assert "train, val of the source stay (3 images)" in summary.notes


@pytest.mark.parametrize(
    ("row", "task", "read"),
    [
        ("0.45 0.45 2 0.55 0.55 1", None, "pose"),
        ("0.45 0.45 1 0.55 0.55 1 0 0 0", None, "pose"),
        ("0.45 0.45 1 0.55 0.55 1", "pose", "pose"),
        ("0.45 0.45 1 0.55 0.55 1", "segment", "segment"),
        ("0.45 0.45 0.9 0.55 0.55 0.8", None, "segment"),
    ],
    ids=["a visible one", "an odd number", "said to be", "said to be outlines", "outlines"],
)
def test_rows_of_yolo_that_read_as_poses_are_poses(row: str, task: str | None, read: str) -> None:
    summary, labels, _ = imported(yolo({"a.txt": f"0 {BOX} {row}"}), task=task)
    assert (summary.task, summary.changes) == (read, {})
    assert labels["a"] == [f"0 {BOX} {row}"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.txt": f"0 {BOX} 0.45 0.45 1 0.55 0.55 1"}, "2 keypoints with a box as well as 5 corners"),
        ({"1/classes.txt": "cat", "2/classes.txt": "dog", "3/a.txt": f"0 {BOX}"}, "1/classes.txt' and '2/classes.txt'"),
    ],
    ids=["poses or outlines", "lists of names"],
)
def test_what_a_yolo_file_leaves_open_is_asked(files: dict[str, str], words: str) -> None:
    with pytest.raises(StudioError, match=words):
        imported(yolo(files))


def test_groups_layers_and_tracks_of_cvat_are_told() -> None:
    box = '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9" frame="0" z_order="{}" group_id="{}"/>'
    group, layer = "not kept: group of an object (group_id)", "not kept: layer of an object (z_order)"
    summary, _, _ = imported(xml(box.format(0, 0) + box.format(2, 4)))
    assert summary.changes == {group: 1, layer: 1}

    track = f'<annotations><track id="3" label="cat" group_id="4">{box.format(0, 0)}</track></annotations>'
    summary, _, _ = imported({"annotations.xml": track, "frame_000000.jpg": jpeg(0)})
    assert summary.changes == {group: 1, "not kept: which objects of a track are the same": 1}


def test_outlines_of_one_group_of_datumaro_are_one_object_and_other_groups_and_layers_are_told() -> None:
    outline = {"type": "polygon", "points": [1, 1, 9, 1, 9, 9], "z_order": 2}
    others = [
        {**outline, "group": 4, "z_order": 0},
        outline,
        outline,
        {"type": "bbox", "bbox": [1, 1, 9, 9], "group": 3},
    ]
    first = {**outline, "group": 3, "points": [20, 20, 30, 20, 30, 30]}
    summary, labels, _ = imported(datumaro(first, *others))
    assert len(labels["a"]) == 5
    assert summary.changes == {
        "changed: an upright box into an outline of its four corners": 1,
        "not kept: layer of an object (z_order)": 3,
        "not kept: group of an object (group)": 2,
    }

    summary, labels, _ = imported(datumaro({**outline, "group": 3}, {**others[0], "group": 3}))
    assert len(labels["a"]) == 1
    assert summary.changes["changed: an outline became a part of another one of its group"] == 1


@pytest.mark.parametrize(
    ("subsets", "of_cat", "of_dog", "objects"),
    [
        (("Train", "night"), [0, 1], [0, 1], {"cat": 2, "dog": 2}),
        (("Train", "Train"), [0, 1], [2, 3], {"cat": 2, "dog": 2}),
        (("Train", "Train"), [0, 1], [0, 1], {}),
        (("Train", "Train"), [0, 2], [1, 3], {}),
    ],
    ids=["in a folder each", "counted on", "counted alike", "between each other"],
)
def test_tracks_of_the_tasks_of_a_cvat_project_are_of_frames_of_their_own(
    subsets: tuple[str, str], of_cat: list[int], of_dog: list[int], objects: dict[str, int]
) -> None:
    """CVAT counts on in the next video of a subset. A cow elsewhere stays; nothing that was labelled is background."""
    box = '<box frame="{}" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    labelled = [("cat", subsets[0], of_cat), ("dog", subsets[1], of_dog)]
    tracks = "".join(
        f'<track label="{label}" task_id="{at}" subset="{subset}">{"".join(map(box.format, frames))}</track>'
        for at, (label, subset, frames) in enumerate(labelled)
    )
    cow = '<track label="cow" task_id="2" subset="Test"><box frame="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    shown = sorted({(subset, frame) for _, subset, frames in labelled for frame in frames} | {("Test", 0)})
    pictures = {f"images/{subset}/frame_{frame:06d}.jpg": jpeg(at) for at, (subset, frame) in enumerate(shown)}
    files: Files = {**pictures, "annotations.xml": f"<annotations>{tracks}{cow}</annotations>"}
    summary, _, _ = imported(files, background=not objects)
    told = "left out: an object in a frame that several tasks number alike (export each task)"
    assert summary.objects == {**objects, "cow": 1}
    assert sum(summary.images.values()) == sum(summary.objects.values())
    assert summary.changes.get(told, 0) == (0 if objects else 4)


def test_two_exports_of_cvat_in_one_zip_keep_frames_of_one_name_apart(tmp_path: Path) -> None:
    """Each task's own export begins at frame_000000: a second video neither replaces the first nor takes its labels."""
    files: Files = {}
    for at, label in enumerate(("cat", "dog")):
        boxes = "".join(f'<box frame="{frame}" xtl="1" ytl="1" xbr="9" ybr="9"/>' for frame in (0, 1))
        files[f"video-{at}/annotations.xml"] = f'<annotations><track label="{label}">{boxes}</track></annotations>'
        files |= {f"video-{at}/images/frame_{frame:06d}.jpg": jpeg(10 * at + frame) for frame in (0, 1)}
    target = tmp_path / "made.zip"
    summary = import_archive(write_zip(tmp_path / "source.zip", files), target, ImportParams(), {})
    with zipfile.ZipFile(target) as archive:
        origins = json.loads(archive.read("provenance.json"))["images"]
        rows = {
            source: archive.read(name.replace("images/", "labels/").replace(".jpg", ".txt")).decode()
            for name, source in origins.items()
        }
        assert all(archive.read(name) == files[source] for name, source in origins.items())
    assert {source: row.partition(" ")[0] for source, row in rows.items()} == {
        f"video-{at}/images/frame_{frame:06d}.jpg": str(at) for at in (0, 1) for frame in (0, 1)
    }
    assert not any(change.startswith("left out") for change in summary.changes)


DESCRIBED: dict[str, tuple[dict[str, object], str, str, str]] = {
    "boxes": ({"names": {0: "cat", 1: "dog"}}, f"1 {BOX}", "detect", f"1 {BOX}"),
    "rotated boxes": (
        {"names": ["cat", "dog"], "task": "obb"},
        "1 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5",
        "obb",
        "1 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5",
    ),
    "poses, which it does not tell": (
        {"names": ["cat", "dog"]},
        f"1 {BOX} 0.45 0.45 2 0.55 0.55 2",
        "pose",
        f"1 {BOX} 0.45 0.45 2 0.55 0.55 2",
    ),
    "poses of two numbers a point": (
        {"names": ["cat", "dog"], "kpt_shape": [2, 2], "flip_idx": [1, 0]},
        f"1 {BOX} 0.45 0.45 0 0",
        "pose",
        f"1 {BOX} 0.45 0.45 2 0 0 0",
    ),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_data_yaml_of_an_unusual_layout_tells_names_splits_and_what_rows_are(name: str) -> None:
    """Labels lie in a folder that no rule expects, and the splits have names of their own."""
    described, row, task, written = DESCRIBED[name]
    pictures = {f"pics/{part}/{at}.jpg": jpeg(at) for at, part in enumerate(("night", "day", "dusk"))}
    files: Files = {f"truth/{at}.txt": row for at in range(3)}
    files |= {"train.txt": "pics/night/0.jpg\n", "truth/classes.txt": "cow"}
    paths = {"train": "train.txt", "val": "pics/day", "test": "pics/dusk"}
    summary, labels, names = imported({**pictures, **files, "data.yaml": yaml.safe_dump(paths | described)})
    assert (names, summary.images) == (["cat", "dog"], {"train": 1, "val": 1, "test": 1})
    assert (summary.task, labels["0"]) == (task, [written])
    assert summary.changes == {"left out: a list of class names that differs from data.yaml": 1}
    assert any("mirrored" in note for note in summary.notes) == (task == "pose" and "flip_idx" not in described)


def test_splits_at_paths_of_another_machine_are_those_of_the_archive_and_it_is_told() -> None:
    """Nothing but data.yaml tells them here: without it all images would be split anew."""
    files: Files = {f"pics/{part}/{at}.jpg": jpeg(at) for at, part in enumerate(("night", "day", "dusk"))}
    files |= {f"pics/{part}/{at}.txt": f"0 {BOX}" for at, part in enumerate(("night", "day", "dusk"))}
    paths = {"train": "/home/me/night.txt", "val": "D:\\ds\\pics\\day", "test": ["/home/me/pics/dusk", "/gone"]}
    files |= {"night.txt": "/home/me/pics/night/0.jpg\n", "data.yaml": yaml.safe_dump(paths | {"names": ["cat"]})}
    summary, _, _ = imported(files)
    assert summary.images == {"train": 1, "val": 1, "test": 1}
    assert any("of the source stay (3 images)" in note for note in summary.notes)
    assert [note.partition("It is taken as ")[2] for note in summary.notes if "a path of this archive" in note] == [
        f"'{own}', which this archive has." for own in ("night.txt", "pics/day", "pics/dusk")
    ]
    assert summary.changes == {"not kept: what data.yaml says, of which the check says yaml-path": 1}


@pytest.mark.parametrize(
    ("paths", "folders", "kept", "taken"),
    [
        # Neither path is there but for its last folder, which both have.
        ({"train": "/ds/train/images", "val": "/ds/val/images"}, ("images/train", "images/val"), True, []),
        # That of test holds the images of the others.
        (
            {"train": "/ds/images/train", "val": "/ds/images/val", "test": "/ds/test/images"},
            ("images/train", "images/val"),
            True,
            ["images/train", "images/val"],
        ),
        # Another split means that folder, and does so by its own path.
        ({"train": "pics", "val": "/ds/val/pics"}, ("pics/day", "pics/night"), False, []),
        ({"train": "/ds/pics", "val": "/ds/pics"}, ("pics/day", "pics/night"), False, []),
    ],
)
def test_an_end_that_two_splits_have_in_common_tells_the_split_of_neither(
    paths: dict[str, str], folders: tuple[str, str], kept: bool, taken: list[str]
) -> None:
    """The folders of the images tell it, if they are named for their splits."""
    files: Files = {"data.yaml": yaml.safe_dump(paths | {"names": ["cat"]})}
    for at in range(9):
        folder = folders[at >= 6]
        files |= {f"{folder}/{at}.jpg": jpeg(at), f"{folder.replace('images', 'labels')}/{at}.txt": f"0 {BOX}"}
    summary, _, _ = imported(files)
    assert summary.changes["not kept: what data.yaml says, of which the check says yaml-path"] >= 1
    assert [note.partition("It is taken as ")[2] for note in summary.notes if "a path of this archive" in note] == [
        f"'{own}', which this archive has." for own in taken
    ]
    assert any("of the source stay (9 images)" in note for note in summary.notes) == kept
    assert sum(summary.images.values()) == 9
    if kept:
        assert summary.images == {"train": 6, "val": 3}


@pytest.mark.parametrize(("described", "notes"), [({}, 1), ({"task": "segment"}, 0), ({"task": "obb"}, 0)])
def test_rows_of_four_corners_are_outlines_unless_something_says_that_they_are_rotated_boxes(
    described: dict[str, str], notes: int
) -> None:
    files = yolo({"a.txt": "0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5"})
    summary, _, _ = imported({**files, "data.yaml": yaml.safe_dump({"names": ["cat"], **described})})
    assert summary.task == described.get("task", "segment")
    assert len([note for note in summary.notes if "obb" in note]) == notes


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"data.yaml": "train: pics"}, "at least one class in names"),
        ({"a/data.yaml": "names: [cat]", "b/data.yaml": "names: [dog]"}, "one data.yaml"),
    ],
)
def test_a_data_yaml_that_names_no_classes_is_refused(files: Files, words: str) -> None:
    with pytest.raises(StudioError, match=words):
        imported({**yolo({"a.txt": f"0 {BOX}"}), **files})


@pytest.mark.parametrize(
    ("size", "runs", "told"),
    [
        ('width="-1" height="-5"', "5", "a mask whose run lengths do not fill it"),
        ('width="4" height="4"', "-4,20", "a mask whose run lengths do not fill it"),
        ('width="4" height="4"', "4,13", "a mask whose run lengths do not fill it"),
        ('width="4" height="4"', "16", "a mask without a pixel"),
        ('width="4" height="4"', "4,nan", "a mask whose numbers are not right"),
    ],
)
def test_a_hostile_mask_of_cvat_costs_its_object_alone(size: str, runs: str, told: str) -> None:
    mask = f'<mask label="cat" left="1" top="1" {size} rle="{{}}"/>'
    whole = mask.replace(size, 'width="4" height="4"').format("4,12")
    summary, labels, _ = imported(xml(mask.format(runs) + whole))
    assert (summary.changes, len(labels["a"])) == ({f"left out: {told}": 1}, 1)

"""What CVAT is told comes back through the reader of its exports as it was, whatever its shape and its class."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.importing.annotations import Box, Outline, RotatedBox, Shape, Tag, rotated_box
from tasks.importing.importer import import_archive
from tasks.parameters import ImportParams
from tasks.review.class_names import ClassNameError
from tasks.review.cvat_format import (
    CvatTaskError,
    name_files,
    read_export,
    require_supported,
    to_annotations,
    to_document,
    to_labels,
)
from tests.cvat import Task, export
from tests.tasks.importing import sources
from tests.tasks.review.rounds import HEIGHT, WIDTH, review_round

ROUNDED = 0.005  # pixels, and degrees: an export has two decimals
IMAGE = sources.jpeg(0, WIDTH, HEIGHT)

names = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=64)
    .map(str.strip)
    .filter(bool)
)
CLASSES = st.lists(names, min_size=2, max_size=3, unique=True)
X, Y = st.floats(0, WIDTH), st.floats(0, HEIGHT)


@st.composite
def boxes(draw: st.DrawFn, name: str) -> Shape:
    left, top = draw(st.floats(0, WIDTH - 2)), draw(st.floats(0, HEIGHT - 2))
    return Box(class_name=name, corners=(left, top, draw(st.floats(left + 1, WIDTH)), draw(st.floats(top + 1, HEIGHT))))


@st.composite
def rotated_boxes(draw: st.DrawFn, name: str) -> Shape:
    """Within the image: beyond it, corners are cut at its edge."""
    width, height = draw(st.floats(1, 40)), draw(st.floats(1, 40))
    centre = draw(st.floats(30, WIDTH - 30)), draw(st.floats(30, HEIGHT - 30))
    return rotated_box(name, centre, width, height, draw(st.floats(-360, 720)))


@st.composite
def outlines(draw: st.DrawFn, name: str) -> Shape:
    """Of any corners, also crossing themselves, round an area that is not flat."""
    ring = draw(st.lists(st.tuples(X, Y), min_size=1, max_size=30))
    return Outline(class_name=name, rings=(np.array([(10, 10), (60, 10), (60, 50), *ring], np.float64),))


@st.composite
def suggestions(draw: st.DrawFn, task: str) -> tuple[list[str], list[Shape]]:
    classes = draw(CLASSES)
    if task == "classify":
        return classes, [Tag(class_name=draw(st.sampled_from(classes)))]
    kinds = {"detect": boxes, "obb": rotated_boxes, "segment": outlines}
    count = draw(st.integers(1, 4))
    return classes, [draw(kinds[task](draw(st.sampled_from(classes)))) for _ in range(count)]


def there_and_back(folder: Path, task: str, classes: list[str], shapes: list[Shape]) -> bytes:
    """The document that is made of an export in which all is as it was suggested."""
    labels = [{"id": at, **label} for at, label in enumerate(to_labels(task, classes))]
    kept = Task(1, "", labels, 1, images={"000000-a.jpg": IMAGE})
    ids = {label["name"]: label["id"] for label in labels}
    drawn = to_annotations([(shape, 1.0) for shape in shapes], 0, ids)
    kept.tags, kept.shapes = drawn["tags"], drawn["shapes"]
    path = folder / "export.zip"
    path.write_bytes(export(kept))
    return to_document(classes, [("day/a.jpg", read_export(path)["000000-a.jpg"])])


def corners_of(shape: Shape) -> np.ndarray:
    match shape:
        case Box():
            left, top, right, bottom = shape.corners
            return np.array([[(left + right) / 2, (top + bottom) / 2], [right - left, bottom - top]])
        case RotatedBox():
            return shape.corners
        case Outline():
            return shape.rings[0]
    raise AssertionError(shape)


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "classify"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_label_is_where_it_was_suggested_and_of_its_class(
    task: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    classes, shapes = data.draw(suggestions(task))
    folder = tmp_path_factory.mktemp("export")
    document = there_and_back(folder, task, classes, shapes)
    source = sources.write_zip(folder / "answers.zip", {"day/a.jpg": IMAGE, "annotations.xml": document})
    params = ImportParams(format="cvat", task=task, split="new", val=0)
    summary = import_archive(source, folder / "back.zip", params, {})
    assert summary.class_names == tuple(classes)
    assert summary.objects == Counter(shape.class_name for shape in shapes)
    if task == "classify":
        return
    with zipfile.ZipFile(folder / "back.zip") as archive:
        (name,) = (name for name in archive.namelist() if name.startswith("labels/"))
        rows = archive.read(name).decode().splitlines()
    assert [classes[int(row.split()[0])] for row in rows] == [shape.class_name for shape in shapes]
    for row, shape in zip(rows, shapes, strict=True):
        found = np.array(row.split()[1:], np.float64).reshape(-1, 2) * [WIDTH, HEIGHT]
        wrong = 5 * ROUNDED if task == "obb" else 2 * ROUNDED + 1e-6  # of a turn, at a corner 28 pixels away
        assert np.abs(found - corners_of(shape)).max() <= wrong


@pytest.mark.parametrize("name", ["", " ", "cell ", "\u2003cell", "a\nb", "a\x00", "\ud800", "\uffff", "x" * 65])
def test_a_class_that_cvat_would_change_is_refused(name: str) -> None:
    with pytest.raises(ClassNameError, match="Rename"):
        to_labels("detect", ["cell", name])


def test_poses_are_not_for_cvat() -> None:
    """A skeleton has no box: the one around its points would be another one than the model has suggested."""
    with pytest.raises(CvatTaskError, match="no box"):
        require_supported("pose")


def test_a_document_does_not_tell_when_it_was_made(tmp_path: Path) -> None:
    document = there_and_back(tmp_path, "detect", ["a", "b"], [Box(class_name="a", corners=(1, 1, 9, 9))])
    assert b"2026" not in document


def test_a_name_in_cvat_is_one_that_every_system_can_write() -> None:
    entries = [
        "media/day/1.jpg",
        "media/night/1.jpg",
        "\u00e9t\u00e9/.. .TIF",
        "\u4e2d" * 199 + ".png",
        "x" * 196 + ".jpg",
    ]
    named = name_files(review_round("detect", *entries))
    assert named == [
        *("000000-1.jpg", "000001-1.jpg", "000002-.._.TIF.jpg", "000003-_.png"),
        f"000004-{'x' * 56}.jpg",
    ]

"""What other tools have drawn comes out where they drew it, to a pixel."""

import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.importing.importer import ImportSummary, import_archive
from tasks.parameters import ImportParams
from tests.tasks.importing import sources
from tests.tasks.importing.sources import HEIGHT, SOURCES, WIDTH, Box


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, WIDTH - 2)), draw(st.integers(0, HEIGHT - 2))
    right, bottom = draw(st.integers(left + 1, WIDTH)), draw(st.integers(top + 1, HEIGHT))
    return Box(draw(st.sampled_from(["cat", "dog"])), left, top, right, bottom)


IMAGES = st.dictionaries(
    st.sampled_from(["a.jpg", "b.jpg", "c.jpg"]), st.lists(boxes(), min_size=1, max_size=4, unique=True), min_size=1
)


def imported(files: dict[str, bytes | str], **params: object) -> tuple[ImportSummary, dict[str, list[str]], list[str]]:
    """The summary, the rows of each label file by its stem, and the class names of data.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        source = sources.write_zip(Path(folder) / "source.zip", files)
        target = Path(folder) / "target.zip"
        summary = import_archive(source, target, ImportParams.model_validate(params), {})
        with zipfile.ZipFile(target) as archive:
            labels = {
                Path(name).stem: archive.read(name).decode().splitlines()
                for name in archive.namelist()
                if name.startswith("labels/")
            }
            names = list(yaml.safe_load(archive.read("data.yaml"))["names"].values())
    return summary, labels, names


def to_boxes(rows: list[str], names: list[str]) -> set[Box]:
    found = set()
    for row in rows:
        number, *shares = row.split()
        x, y, width, height = map(float, shares)
        corners = (x - width / 2) * WIDTH, (y - height / 2) * HEIGHT, (x + width / 2) * WIDTH, (y + height / 2) * HEIGHT
        found.add(Box(names[int(number)], *(round(corner, 4) for corner in corners)))
    return found


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=20, deadline=None)
@given(images=IMAGES)
def test_each_box_comes_out_where_it_was_drawn(name: str, images: dict[str, list[Box]]) -> None:
    kind, write = SOURCES[name]
    if name == "voc of a challenge":  # a box at 0 would tell that they count from 0
        images = {image: [box for box in own if box.left + box.top >= 0] for image, own in images.items()}
    summary, labels, names = imported(write(images))
    assert summary.format == kind
    assert {image: to_boxes(labels[Path(image).stem], names) for image in images} == {
        image: set(own) for image, own in images.items()
    }


def test_what_supervision_writes_counts_pixels_from_1() -> None:
    """As `object_to_pascal_voc` of version 0.31 writes the box 4, 6, 30, 40, and an outline with these corners."""
    points = "".join(
        f"<x{at}>{x}</x{at}><y{at}>{y}</y{at}>" for at, (x, y) in enumerate([(5, 7), (31, 7), (31, 41)], 1)
    )
    box = "<bndbox><xmin>5</xmin><ymin>7</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    for polygon in ("", f"<polygon>{points}</polygon>"):
        text = (
            "<annotation><folder>VOC</folder><filename>a.jpg</filename><source><database>roboflow.ai</database></source>"
            f"<object><name>cat</name>{box}{polygon}</object></annotation>"
        )
        _, labels, names = imported({"a.xml": text, "a.jpg": sources.jpeg(0)}, task="detect")
        assert to_boxes(labels["a"], names) == {Box("cat", 4, 6, 30, 40)}


def test_swapped_corners_of_a_challenge_are_of_the_same_pixels() -> None:
    box = Box("cat", 10, 10, 20, 20)
    files = sources.voc_challenge({"a.jpg": [box]})
    swapped = {
        name: text.replace("xmin", "-").replace("xmax", "xmin").replace("-", "xmax") if isinstance(text, str) else text
        for name, text in files.items()
    }
    _, labels, names = imported(swapped)
    assert to_boxes(labels["a"], names) == {box}


def test_an_image_of_voc_in_two_lists_is_in_the_last_and_told() -> None:
    files = sources.voc({name: [Box("cat", 10, 10, 20, 20)] for name in ("a.jpg", "b.jpg", "c.jpg")})
    lists = {"ImageSets/Main/train.txt": "a\nb\n", "ImageSets/Main/val.txt": "b\nc\n"}
    summary, _, _ = imported({**files, **lists})
    assert summary.images == {"train": 1, "val": 2}
    assert summary.changes == {"changed: an image that is listed in train and val is in val": 1}


def test_any_box_at_0_of_a_challenge_tells_that_pixels_count_from_0() -> None:
    boxes = [Box("cat", 10, 10, 20, 20), Box("cat", 0, 0, 30, 30), Box("cat", 5, 5, 30, 30)]
    files = sources.voc({"a.jpg": boxes})
    files = {
        name: text.replace("images<", "VOC2012<") if isinstance(text, str) else text for name, text in files.items()
    }
    _, labels, names = imported(files)
    assert to_boxes(labels["a"], names) == set(boxes)

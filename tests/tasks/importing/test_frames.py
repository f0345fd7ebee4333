"""Labels of an image that EXIF turns lie on what it shows, whether their tool has turned it or not."""

import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import ExifTags, Image

from tasks.media.images import decode_image
from tests.tasks.importing import sources
from tests.tasks.importing.sources import HEIGHT, WIDTH, Box
from tests.tasks.importing.test_round_trip import boxes, imported

Files = dict[str, bytes | str]
Writer = Callable[[str, Box, tuple[int, int]], Files]
QUARTER = 6  # an orientation that swaps the sides, so that sizes tell how a tool has shown the image


def photo(box: Box, orientation: int) -> bytes:
    """A dark picture as stored, with a bright box."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 255
    exif, written = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(written, "png", exif=exif)
    return written.getvalue()


def seen(data: bytes) -> tuple[Box, tuple[int, int]]:
    """The bright box as it is shown, with width and height of the picture."""
    bright = decode_image(data)[..., 0] > 128
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(bright.any(axis=axis)).repeat(2).tolist() for axis in (1, 0))
    return Box("cat", left, top, right + 1, bottom + 1), bright.shape[::-1]


def coco(name: str, box: Box, size: tuple[int, int]) -> Files:
    text = str(sources.coco({name: [box]})["annotations/instances_default.json"])
    document = json.loads(text)
    document["images"][0] |= dict(zip(("width", "height"), size, strict=True))
    return {f"{name}.json": json.dumps(document)}


def labelme(name: str, box: Box, size: tuple[int, int]) -> Files:
    shape = {"label": box.name, "shape_type": "rectangle", "points": [[box.left, box.top], [box.right, box.bottom]]}
    document = {"imagePath": name, "imageWidth": size[0], "imageHeight": size[1], "shapes": [shape]}
    return {f"{name}.json": json.dumps(document)}


@pytest.mark.parametrize("write", [coco, labelme])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("as_stored", [True, False])
@settings(max_examples=5, deadline=None)
@given(box=boxes())
def test_a_box_lies_on_what_it_was_drawn_around(write: Writer, orientation: int, as_stored: bool, box: Box) -> None:
    """Beside a photo that tells how its tool shows photos, as a half turn does not."""
    photos = {"a.png": photo(box, orientation), "b.png": photo(box, QUARTER)}
    shown = {name: seen(data) for name, data in photos.items()}
    files: Files = {**photos}
    for name in photos:
        drawn = (box._replace(name="cat"), (WIDTH, HEIGHT)) if as_stored else shown[name]
        files |= write(name, *drawn)
    _, labels, _ = imported(files)
    for name, (expected, (width, height)) in shown.items():
        (row,) = labels[name[0]]
        x, y, across, down = (float(word) for word in row.split()[1:])
        found = (x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height
        assert found == pytest.approx(expected[1:], abs=1e-4)


@pytest.mark.parametrize(
    ("orientation", "size", "notes"),
    [
        (1, (WIDTH, HEIGHT), []),
        (QUARTER, (WIDTH, HEIGHT), ["images that EXIF turns: 0 drawn on as shown, and 1 as stored"]),
        (QUARTER, (HEIGHT, WIDTH), ["images that EXIF turns: 1 drawn on as shown, and 0"]),
        (
            3,
            (WIDTH, HEIGHT),
            [
                "images that EXIF turns: 1 drawn on as shown",
                "width and height do not tell it of 1 of them, which are taken as shown",
            ],
        ),
    ],
)
def test_what_was_taken_of_turned_images_is_told(orientation: int, size: tuple[int, int], notes: list[str]) -> None:
    box = Box("cat", 4, 4, 30, 40)
    summary, _, _ = imported({"a.png": photo(box, orientation), **coco("a.png", box, size)})
    told = [note for note in summary.notes if not note.startswith("splits")]
    assert all(note.startswith(words) for note, words in zip(told, notes, strict=True))


def test_an_image_whose_sides_are_swapped_in_the_annotations_does_not_become_background() -> None:
    box = Box("cat", 1, 1, 9, 9)
    files: Files = {"a.png": photo(box, 1), "b.png": photo(box, 1)}
    summary, labels, _ = imported(files | coco("a.png", box, (HEIGHT, WIDTH)) | coco("b.png", box, (WIDTH, HEIGHT)))
    assert list(labels) == ["b"]
    assert summary.changes["left out: annotations whose width and height are swapped in their image"] == 1


@pytest.mark.parametrize(
    ("shapes", "kept"), [(["box"], 1), (["outline"], 1), (["box", "outline"], 0)], ids=["boxes", "outlines", "both"]
)
def test_coco_of_label_studio_has_the_size_of_the_file_beside_what_was_drawn_on_the_image_as_shown(
    shapes: list[str], kept: int
) -> None:
    """Its converter (2.1) writes boxes in pixels of what was shown, and outlines in shares of the wrong size."""
    data, other = (photo(Box("cat", 4, 4, 30, 40), turn) for turn in (QUARTER, 1))
    (_, left, top, right, bottom), (width, height) = seen(data)
    across, down = WIDTH / width, HEIGHT / height
    ring = [left * across, top * down, right * across, top * down, right * across, bottom * down]
    drawn = {
        "box": {"bbox": [left, top, right - left, bottom - top], "segmentation": []},
        "outline": {"bbox": [1, 1, 9, 9], "segmentation": [ring]},
    }
    files = coco("a.png", Box("cat", 1, 1, 9, 9), (WIDTH, HEIGHT))
    document = json.loads(files["a.png.json"])
    (annotation,) = document["annotations"]
    document |= {"info": {"contributor": "Label Studio"}, "annotations": [annotation | drawn[each] for each in shapes]}
    files = {"a.png.json": json.dumps(document), **coco("b.png", Box("cat", 1, 1, 9, 9), (WIDTH, HEIGHT))}
    _, labels, _ = imported({"a.png": data, "b.png": other, **files}, task="detect")
    assert len(labels) == 1 + kept
    for row in labels.get("a", []):
        x, y, _, _ = (float(word) for word in row.split()[1:])
        assert (x * width, y * height) == pytest.approx(((left + right) / 2, (top + bottom) / 2))

"""What is drawn and written for people to look at."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tasks.media import images
from tasks.media.annotate import annotate_image
from tasks.media.images import read_image, resize_to_fit, shrink_to_fit, write_jpeg
from tasks.media.text_rendering import drawable_text, write_label
from tasks.rendering.palette import class_colour
from tasks.vision.detections import Detections
from tasks.vision.geometry import xywhr_to_corners
from tests.tasks.media.samples import photo


def detections(width: int, height: int, *boxes: list[float]) -> Detections:
    count = len(boxes)
    array = np.reshape(np.array(boxes, np.float32), (-1, 4))
    return Detections(
        width=width,
        height=height,
        xyxy=array,
        confidence=np.full(count, 0.9, np.float32),
        class_id=np.arange(count, dtype=np.int32),
        source="x",
    )


def test_drawing_marks_the_box_and_leaves_the_picture_alone() -> None:
    image = photo(400, 300)
    before = image.copy()
    drawn = annotate_image(image, detections(400, 300, [100, 120, 200, 220]), ["cell"])
    assert (image == before).all()
    assert np.abs(drawn[150, 100].astype(int) - class_colour(0)).max() < 60
    assert (drawn[230:] == image[230:]).all()
    assert (drawn[90:118, 100:160] != image[90:118, 100:160]).any()


def test_a_mask_is_an_outline_with_a_light_fill_and_no_box() -> None:
    image = np.full((300, 400, 3), 30, np.uint8)
    ring = np.array([[200, 60], [300, 160], [200, 260], [100, 160]], np.float32)
    found = replace(detections(400, 300, [100, 60, 300, 260]), polygons=(ring,))
    drawn = annotate_image(image, found, ["cell"], labels=False)
    colour = np.array(class_colour(0))
    assert np.abs(drawn[160, 100].astype(int) - colour).max() < 60
    assert np.abs(drawn[160, 200] - (0.4 * colour + 0.6 * 30)).max() < 2
    assert (drawn[240:, 110:140] == image[240:, 110:140]).all()
    empty = replace(found, polygons=(np.empty((0, 2), np.float32),))
    assert (
        annotate_image(image, empty, ["cell"])
        == annotate_image(image, detections(400, 300, [100, 60, 300, 260]), ["cell"])
    ).all()


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_dashes_are_seen_on_any_image(grey: int) -> None:
    image = np.full((300, 400, 3), grey, np.uint8)
    ring = np.array([[200, 60], [300, 160], [200, 260], [100, 160]], np.float32)
    found = replace(detections(400, 300, [100, 60, 300, 260]), polygons=(ring,))
    drawn = annotate_image(image, found, ["cell"], labels=False, colour=(255, 255, 255), dashed=True)
    corner_to_corner = drawn[np.arange(60, 160), np.arange(200, 300)].mean(axis=1)
    assert (corner_to_corner > 200).sum() > 20
    assert (corner_to_corner < 60).sum() > 10
    assert (drawn[150:170, 150:250] == grey).all()


def test_a_label_has_no_confidence_to_write() -> None:
    image = np.full((300, 400, 3), 30, np.uint8)
    found = detections(400, 300, [100, 120, 200, 220])
    label = replace(found, confidence=np.full(1, np.nan, np.float32))
    written = [(annotate_image(image, each, ["cell"])[90:118] != 30).any(axis=2).sum() for each in (found, label)]
    assert written[1] < 0.7 * written[0]


def test_a_rotated_box_is_drawn_as_it_lies() -> None:
    image = photo(400, 300)
    rotated = np.array([[200, 150, 160, 40, 0.7], [1e9, -1e9, 1e9, 1e9, 0.1]], np.float32)
    found = detections(400, 300, [110, 80, 290, 220], [0, 0, 9, 9])
    drawn = annotate_image(
        image, replace(found, xywhr=rotated, polygons=tuple(xywhr_to_corners(rotated))), ["ship"], labels=False
    )
    assert (drawn[150, 200] == image[150, 200]).all()
    assert (drawn[80:100, 260:] == image[80:100, 260:]).all()
    x, y = xywhr_to_corners(rotated)[0, 0].round().astype(int)
    assert (drawn[y, x] != image[y, x]).any()


@pytest.mark.parametrize("count", [17, 5])
def test_keypoints_are_drawn_where_they_are_visible(count: int) -> None:
    image = np.full((300, 400, 3), 30, np.uint8)
    points = np.full((1, count, 3), 0.2, np.float32)
    points[0, :, :2] = 20
    points[0, 1], points[0, 3] = (100, 200, 0.9), (300, 200, 0.9)
    found = detections(400, 300, [50, 50, 350, 250])
    drawn = annotate_image(image, replace(found, keypoints=points), ["person"], labels=False)
    assert (drawn[200, [100, 300]] != 30).any(axis=1).all()
    assert (drawn[20, 20] == 30).all()
    limb = (drawn[198:203, 150:250] != 30).any()
    assert limb == (count == 17)


def test_classes_of_the_whole_picture_are_labels_in_its_corner() -> None:
    image = photo(400, 300)
    drawn = annotate_image(image, detections(400, 300, *[[0.0, 0.0, 400.0, 300.0]] * 2), ["cat", "dog"])
    changed = (drawn != image).any(axis=2)
    assert changed[:30, :30].mean() > 0.9
    assert not changed[45:].any()
    assert not changed[:, 150:].any()
    assert (annotate_image(image, detections(400, 300, [0, 0, 400, 300]), ["cat"], labels=False) == image).all()


def test_a_followed_object_says_its_number() -> None:
    image, found = photo(400, 300), detections(400, 300, [100, 120, 200, 220])
    plain = annotate_image(image, found, ["cell"])
    assert (annotate_image(image, replace(found, tracker_id=np.array([0])), ["cell"]) == plain).all()
    numbered = annotate_image(image, replace(found, tracker_id=np.array([7])), ["cell"])
    assert (numbered[:118] != plain[:118]).any()
    assert (numbered[122:] == plain[122:]).all()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Käse", "Käse"), ("猫", "猫"), ("שלום cat", "םולש cat"), ("🧀", "class 3"), (" \n", "class 3"), ("a\nb", "a b")],
)
def test_names_in_any_script_are_legible(name: str, shown: str) -> None:
    assert drawable_text(name, "class 3") == shown


def test_letters_that_are_drawn_differ_from_each_other() -> None:
    """No script becomes boxes or question marks."""

    def written(text: str) -> bytes:
        canvas = np.zeros((40, 60, 3), np.uint8)
        write_label(canvas, text, (0, 0), (0, 0, 0), 24)
        return canvas.tobytes()

    letters = "?aäőłñкшδ猫犬かなשק한"
    assert len({written(letter) for letter in letters}) == len(letters)


def test_threads_draw_the_same_letters() -> None:
    image, found = photo(400, 300), detections(400, 300, [10, 60, 200, 220], [100, 120, 350, 250])
    wanted = annotate_image(image, found, ["Käse", "猫"])
    with ThreadPoolExecutor(4) as pool:
        assert all(
            (drawn == wanted).all()
            for drawn in pool.map(lambda _: annotate_image(image, found, ["Käse", "猫"]), range(400))
        )


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (40, 40)])
def test_drawing_survives_tiny_pictures_and_odd_names(size: tuple[int, int]) -> None:
    width, height = size
    drawn = annotate_image(
        photo(*size), detections(width, height, [0, 0, width, height]), ["ünïcode\n\0</script>" * 20]
    )
    assert drawn.shape == (height, width, 3)


def test_neighbouring_classes_have_colours_apart() -> None:
    colours = [np.array(class_colour(number)) for number in range(12)]
    assert min(np.abs(one - other).max() for one, other in pairwise(colours)) > 60


def test_a_jpeg_is_written_whole_and_its_limits_are_kept(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "thumbnails" / "a.jpg", photo())
    assert read_image(tmp_path / "thumbnails" / "a.jpg").shape == (40, 60, 3)
    write_jpeg(tmp_path / "long.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert read_image(tmp_path / "long.jpg").shape == (1, images.JPEG_LARGEST_SIDE, 3)
    assert {path.name for path in tmp_path.rglob("*.*")} == {"a.jpg", "long.jpg"}


def test_fitting_shrinks_and_never_enlarges() -> None:
    assert shrink_to_fit(photo(600, 400), 300).shape == (200, 300, 3)
    assert shrink_to_fit(photo(60, 40), 300).shape == (40, 60, 3)
    assert shrink_to_fit(photo(3000, 2), 300).shape == (1, 300, 3)
    assert resize_to_fit(photo(60, 40), 300).shape == (200, 300, 3)

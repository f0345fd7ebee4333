"""An annotation finds its image by what it says of its place, and none rather than the wrong one."""

import cProfile

import pytest

from tasks.importing.image_index import ImageIndex, subset_of_image
from tasks.importing.plain_yolo import image_path

IMAGES = ("train/images/a.jpg", "val/images/a.jpg", "b.JPG", "0.jpg", "cam/0.jpg")


@pytest.mark.parametrize(
    ("written", "folder", "subset", "found"),
    [
        ("b.JPG", "", "", ["b.JPG"]),
        ("/home/me/b.JPG", "annotations", "", ["b.JPG"]),
        ("..\\b", "", "", ["b.JPG"]),
        ("a.jpg", "", "", ["train/images/a.jpg", "val/images/a.jpg"]),
        ("a.jpg", "", "val", ["val/images/a.jpg"]),
        ("images/a.jpg", "train/images", "", ["train/images/a.jpg"]),
        ("C:\\old\\val\\images\\a.jpg", "", "", ["val/images/a.jpg"]),
        (image_path("val/labels/a.txt"), "val/labels", "", ["val/images/a.jpg"]),
        ("0.jpg", "", "", ["0.jpg"]),
        ("0.jpg", "cam", "", ["cam/0.jpg"]),
        ("c.jpg", "", "", []),
    ],
)
def test_an_image_is_found_by_its_name_and_its_place(written: str, folder: str, subset: str, found: list[str]) -> None:
    assert ImageIndex(IMAGES).find(written, folder, subset) == found


@pytest.mark.parametrize(
    ("written", "folder"), [("a.jpg", ""), ("a.jpg", "d{}"), ("../d{}/f/a", ""), ("x{}/a.jpg", "y{}")]
)
def test_an_image_is_found_as_quickly_if_very_many_have_its_name(written: str, folder: str) -> None:
    """In steps of Python, which no other process slows down."""
    calls = []
    for count in (100, 1000):
        index = ImageIndex(f"d{at}/f/a.jpg" for at in range(count))
        profile = cProfile.Profile()
        profile.enable()
        for at in range(count):
            index.find(written.format(at), folder.format(at))
        profile.disable()
        calls.append(sum(each.callcount for each in profile.getstats()) / count)
    assert calls[1] < 2 * calls[0]


@pytest.mark.parametrize(
    ("path", "subset"),
    [("images/train/val_x.jpg", "train"), ("images/val/train_9.jpg", "val"), ("val_x.jpg", "val"), ("a/b.jpg", "")],
)
def test_folders_say_the_subset_of_an_image_before_its_own_name(path: str, subset: str) -> None:
    assert subset_of_image(path) == subset

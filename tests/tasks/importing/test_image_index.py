"""An annotation finds its image by what it says of its place, and none rather than the wrong one."""

import pytest

from tasks.importing.image_index import ImageIndex
from tasks.importing.plain_yolo import image_path

TWO = ("train/images/a.jpg", "val/images/a.jpg", "b.JPG")


@pytest.mark.parametrize(
    ("written", "folder", "subset", "found"),
    [
        ("b.JPG", "", "", "b.JPG"),
        ("/home/me/b.JPG", "annotations", "", "b.JPG"),
        ("..\\b", "", "", "b.JPG"),
        ("a.jpg", "", "", None),
        ("a.jpg", "", "val", "val/images/a.jpg"),
        ("images/a.jpg", "train/images", "", "train/images/a.jpg"),
        ("C:\\old\\val\\images\\a.jpg", "", "", "val/images/a.jpg"),
        (image_path("val/labels/a.txt"), "val/labels", "", "val/images/a.jpg"),
        ("c.jpg", "", "", None),
    ],
)
def test_an_image_is_found_by_its_name_and_its_place(written: str, folder: str, subset: str, found: str | None) -> None:
    assert ImageIndex(TWO).find(written, folder, subset) == found

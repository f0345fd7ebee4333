"""The parts of the images by which a model may do worse."""

import pytest

from tasks.errors import StudioError
from tasks.evaluation.slices import NO_GROUP, ImageTraits, describe_alike, find_slices


def traits(number: int, archive: str = "a.zip", name: str = "", brightness: float = 0.0) -> ImageTraits:
    return ImageTraits(
        archive=archive,
        name=name or f"cam{number % 2}-{number}.jpg",
        brightness=brightness or number,
        sharpness=1.0,
        pixels=300_000,
        labels=2,
    )


def test_images_are_cut_into_thirds_where_they_differ() -> None:
    slices = find_slices([traits(number) for number in range(9)])
    assert [(each.by, each.name, each.images) for each in slices] == [
        ("brightness", "0 to 2 of 255", (0, 1, 2)),
        ("brightness", "3 to 5 of 255", (3, 4, 5)),
        ("brightness", "6 to 8 of 255", (6, 7, 8)),
    ]


def test_images_that_a_person_reads_as_equal_stay_together() -> None:
    """Thirds of 100.0 to 100.3 would all be named `100 of 255`, and one would stand for the others on the page."""
    levels = [100.0, 100.1, 100.2, 100.3]
    images = [traits(number, brightness=level) for number, level in enumerate(levels)]
    assert find_slices(images) == []
    assert "brightness (100 of 255)" in describe_alike(images)
    images.append(traits(4, brightness=120))
    assert [(each.name, each.words, each.images) for each in find_slices(images)] == [
        ("100 of 255", "dark images", (0, 1, 2)),
        ("100 to 120 of 255", "bright images", (3, 4)),
    ]
    assert describe_alike(images) == ["sharpness (1.00)", "image size (0.3 megapixels)", "labels in the image (2)"]


def test_a_pattern_groups_by_the_names_and_archives_stand_apart() -> None:
    images = [traits(0), traits(1), traits(2, archive="b.zip"), traits(3, name="other.jpg")]
    found = {(each.by, each.name): each.images for each in find_slices(images, ["cam{group}-*.jpg"])}
    assert found["archive", "b.zip"] == (2,)
    assert found["cam{group}-*.jpg", "0"] == (0, 2)
    assert found["cam{group}-*.jpg", NO_GROUP] == (3,)


def test_a_pattern_that_names_every_image_is_refused() -> None:
    with pytest.raises(StudioError, match="at most 100 groups"):
        find_slices([traits(number) for number in range(101)], ["cam*-{group}.jpg"])

"""Which few images show as much as possible of a dataset."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Image = TypeVar("Image")


def read_classes(text: str) -> frozenset[int]:
    """Return the class ids of the rows of a label file."""
    return frozenset(int(fields[0]) for line in text.split("\n") if (fields := line.split()))


def every_nth(images: Sequence[Image], most: int) -> list[Image]:
    """Return at most so many of the images, in equal steps from the first on."""
    step = max(1, -(-len(images) // most))
    return list(images[::step])


def select_diverse(classes: Mapping[Image, frozenset[int]], count: int) -> list[Image]:
    """Return `count` of the images, or all there are: each time the one that adds most to what is shown.

    `classes` maps each image to the ids of the classes that it shows. A class not shown yet counts most, then one that
    few of the chosen show; of equal images the first is taken. So images without labels come last.
    """
    chosen: list[Image] = []
    shown: dict[int, int] = {}
    left = list(classes)
    while left and len(chosen) < count:
        best = max(left, key=lambda image: _new_classes(classes[image], shown))
        left.remove(best)
        chosen.append(best)
        for class_id in classes[best]:
            shown[class_id] = shown.get(class_id, 0) + 1
    return chosen


def _new_classes(classes: frozenset[int], shown: Mapping[int, int]) -> tuple[int, float]:
    new = sum(class_id not in shown for class_id in classes)
    # In one order, as the last digit of a sum depends on it.
    return new, sum(1 / (1 + shown.get(class_id, 0)) for class_id in sorted(classes))

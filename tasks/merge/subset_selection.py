"""Which few images show as much as possible of a dataset."""

from collections.abc import Mapping
from typing import TypeVar

Image = TypeVar("Image")


def select_diverse(classes: Mapping[Image, frozenset[int]], count: int) -> list[Image]:
    """Return `count` of the images, or all there are: each time the one that shows most that is new.

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

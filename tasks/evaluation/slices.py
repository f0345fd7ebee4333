"""Images that have something in common, and in which a model may do worse: dark ones, crowded ones, a camera's."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.merge.split_leakage import group_expression

MAX_GROUPS = 100  # of a pattern: more are names of images, not groups
NO_GROUP = "(no group)"
ARCHIVE = "archive"


@dataclass(frozen=True, kw_only=True)
class ImageTraits:
    """What an image is like: its path `name` in its `archive`, grey level (0 to 255), sharpness, pixels, and labels."""

    archive: str
    name: str
    brightness: float
    sharpness: float
    pixels: int
    labels: int


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Images by their numbers, with the `name` of what they have in common, of kind `by`; `words` are a person's."""

    by: str
    name: str
    words: str
    images: tuple[int, ...]


_Values = np.ndarray[tuple[int], np.dtype[np.float64]]


class _Measure(NamedTuple):
    of: Callable[[ImageTraits], float]
    form: str
    unit: str
    words: tuple[str, str, str]

    def name(self, values: _Values) -> str:
        low, high = (format(value, self.form) for value in (values.min(), values.max()))
        return f"{low if low == high else f'{low} to {high}'}{self.unit}"


_MEASURES: Mapping[str, _Measure] = {
    "brightness": _Measure(
        lambda image: image.brightness,
        ".0f",
        " of 255",
        ("dark images", "images of medium brightness", "bright images"),
    ),
    "sharpness": _Measure(
        lambda image: image.sharpness,
        ".2f",
        "",
        ("blurred images", "images of medium sharpness", "sharp images"),
    ),
    "image size": _Measure(
        lambda image: image.pixels / 1e6,
        ".3g",
        " megapixels",
        ("small images", "images of medium size", "large images"),
    ),
    "labels in the image": _Measure(
        lambda image: image.labels,
        ".0f",
        "",
        ("images with few labels", "images with some labels", "crowded images"),
    ),
}


def find_slices(images: Sequence[ImageTraits], groups: Sequence[str] = ()) -> list[Slice]:
    """Return the slices: thirds by each measure, archives if there are several, and the groups of each pattern.

    Patterns are as in merge.groups: what stands at `{group}` in the path of an image is the name of its slice.

    Raises:
        StudioError: A pattern makes too many slices.
    """
    archives = _by_name(ARCHIVE, (image.archive for image in images))
    slices = archives if len(archives) > 1 else []
    for by, measure in _MEASURES.items():
        slices += _thirds(by, measure, _values(measure, images))
    for pattern in groups:
        named = _by_name(pattern, (_group(group_expression(pattern), image.name) for image in images))
        if len(named) > MAX_GROUPS:
            fix = "Write one with fewer, such as {group}-*.jpg."
            expected = f"a pattern in evaluation.groups with at most {MAX_GROUPS} groups"
            raise StudioError(expected_found_fix(expected, f"{len(named)} of {safe_repr(pattern, 100)}", fix))
        slices += named
    return slices


def describe_alike(images: Sequence[ImageTraits]) -> list[str]:
    """Return by which measures no slices are made, because all images are alike, such as `brightness (90 of 255)`."""
    alike = []
    for by, measure in _MEASURES.items():
        values = _values(measure, images)
        if len(values) and not any(_thirds(by, measure, values)):
            alike.append(f"{by} ({measure.name(values)})")
    return alike


def _values(measure: _Measure, images: Sequence[ImageTraits]) -> _Values:
    return np.array([measure.of(image) for image in images], np.float64)


def _thirds(by: str, measure: _Measure, values: _Values) -> Iterator[Slice]:
    """The images with the lowest values, those in the middle and those with the highest.

    Values that are equal, or that a person reads as equal, stay together.
    """
    if not len(values):
        return
    edges = np.quantile(values, [1 / 3, 2 / 3], method="lower")
    part = np.searchsorted(edges, values)
    members: dict[str, list[int]] = {}
    for number in np.unique(part).tolist():
        images = np.flatnonzero(part == number)
        members.setdefault(measure.name(values[images]), []).extend(images.tolist())
    low, middle, high = measure.words
    first, last = next(iter(members)), next(reversed(members))
    if first != last:
        for name, numbers in members.items():
            words = low if name == first else high if name == last else middle
            yield Slice(by=by, name=name, words=words, images=tuple(sorted(numbers)))


def _by_name(by: str, names: Iterator[str]) -> list[Slice]:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        members[name].append(number)
    return [
        Slice(by=by, name=name, words=f"{by} {safe_repr(name)}", images=tuple(images))
        for name, images in sorted(members.items())
    ]


def _group(pattern: re.Pattern[str], name: str) -> str:
    found = pattern.search(name)
    return found["group"] if found else NO_GROUP

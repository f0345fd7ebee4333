"""Which class names differ by a slip of the keyboard, as `platelet` and `platlet`, or by a space alone."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice

import numpy as np
import numpy.typing as npt

# Of difflib's ratio of two words. One letter of six is another: 0.83; "male" and "female" have 0.8.
MIN_SIMILARITY = 0.83
# A letter more or less in a shorter word makes another word: car and cart, bus and bush.
_MIN_WORD = 5
# What is compared at most: nobody reads a longer name, nor more pairs.
_MAX_NAME = 100
_MAX_NAMES = 5000
_MAX_COMPARISONS = 20_000
_LETTERS = 32


def find_similar_pairs(names: Sequence[str], owners: Sequence[Collection[int]]) -> Iterator[tuple[int, int]]:
    """Yield the places of names (first, later) that are nearly equal, by the later place.

    `names` are in lower case with single spaces; `owners` are the archives of each. Names of one archive are different
    classes, and so are names that differ by their numbers.
    """
    for first, later in islice(_candidates(names), _MAX_COMPARISONS):
        if set(owners[first]).isdisjoint(owners[later]) and _similar(names[first], names[later]):
            yield first, later


def _candidates(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of names with the same numbers and nearly the same letters, in whatever order."""
    earlier: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    letters = np.array([_letters(name) for name in names[:_MAX_NAMES]], np.int16).reshape(-1, _LETTERS)
    sizes = letters.sum(axis=1)
    for place, name in enumerate(names[:_MAX_NAMES]):
        if len(name) > _MAX_NAME:
            continue
        others = earlier[tuple(re.findall(r"\d+", name))]
        apart = np.abs(letters[others] - letters[place]).sum(axis=1)
        near = apart <= (1 - MIN_SIMILARITY) * (sizes[others] + sizes[place])
        yield from ((others[at], place) for at in np.flatnonzero(near))
        others.append(place)


def _letters(name: str) -> npt.NDArray[np.int64]:
    """Count the letters without the spaces; some share a place, so names are never further apart than they seem."""
    code_points = np.frombuffer(name[:_MAX_NAME].replace(" ", "").encode("utf-32-le"), np.uint32)
    return np.bincount(code_points % _LETTERS, minlength=_LETTERS)


def _similar(one: str, other: str) -> bool:
    words, others = one.split(), other.split()
    if len(words) != len(others):
        return "".join(words) == "".join(others)
    return all(word == own or _is_slip(word, own) for word, own in zip(words, others, strict=True))


def _is_slip(one: str, other: str) -> bool:
    if min(len(one), len(other)) < _MIN_WORD:
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.quick_ratio() >= MIN_SIMILARITY and matcher.ratio() >= MIN_SIMILARITY

"""The same picture in several archives, each labelled for its own classes: one picture with the labels of all.

Only the same pixels, shown the same way, count: nearly the same pictures may show other objects. The picture of the
first archive stays. Of two rows of one class whose boxes share most of their area the first archive's stays. A row that
no other matches stays as well; if both archives have its class, they disagree about it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.dataset.labels import box_around
from tasks.disjoint_sets import DisjointSets
from tasks.merge.remap import remap_labels

# Two boxes of one class with more in common are of one object; with more than the second they are one box.
SAME_OBJECT = 0.5
SAME_BOX = 0.95
# Nobody has labelled so much of one class in one picture twice; with more only equal boxes are looked for.
MAX_PAIRS = 1_000_000
_DIGITS = 4

Corners = NDArray[np.float64]


class ImageCopy(NamedTuple):
    """One of the copies: the place of its archive in the plan, the image, and the label there, if it has one."""

    archive: int
    image: str
    label: str | None


class LabelUnion(NamedTuple):
    """A picture that several archives have. The first copy that no other split keeps out is written for all.

    `copies` are in the order of archives, and `kept` is the place of that copy among them.
    """

    kept: int
    copies: tuple[ImageCopy, ...]

    @property
    def written(self) -> ImageCopy:
        """The copy that the merged dataset gets."""
        return self.copies[self.kept]


class Joined(NamedTuple):
    """Rows of several archives as one label, and how many of them the archives disagree about."""

    text: str
    disputed: int


def unite(
    pairs: Iterable[tuple[str, str]], copies: Mapping[str, ImageCopy], staying: Collection[str]
) -> Iterator[LabelUnion]:
    """Yield the pictures that several archives have and that stay; `pairs` are keys of `copies` of one picture."""
    pairs = list(pairs)
    groups = DisjointSets(chain.from_iterable(pairs))
    for one, other in pairs:
        groups.join(one, other)
    for group in groups.sets():
        ordered = sorted((copies[key], key) for key in group)
        kept = next((at for at, (_, key) in enumerate(ordered) if key in staying), None)
        if kept is not None and len({copy.archive for copy, _ in ordered}) > 1:
            yield LabelUnion(kept, tuple(copy for copy, _ in ordered))


def joined_labels(
    copies: Sequence[ImageCopy],
    read: Callable[[ImageCopy], bytes],
    class_ids: Sequence[Sequence[int | None]],
    task: str | None,
) -> Joined:
    """Join the copies' labels, whose bytes `read` returns; `class_ids` are those of each archive, as in `ClassPlan`."""
    texts = []
    for copy in copies:
        ids = class_ids[copy.archive]
        text = remap_labels(read(copy).decode("utf-8-sig"), ids, task)
        texts.append((text, frozenset(merged for merged in ids if merged is not None)))
    return join_labels(texts, task)


def join_labels(texts: Sequence[tuple[str, frozenset[int]]], task: str | None) -> Joined:
    """Join label rows under merged ids; `texts` holds for each archive its rows and the ids of the classes it names."""
    kept: list[str] = []
    disputed = 0
    seen: defaultdict[int, list[Corners]] = defaultdict(list)
    named: set[int] = set()
    for text, classes in texts:
        rows = [line.split(" ") for line in text.splitlines()]
        own: defaultdict[int, list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            own[int(row[0])].append(at)
        dropped: set[int] = set()
        for number in sorted(classes & named | own.keys()):
            boxes = [_box(rows[at], task) for at in own[number]]
            matched = _matches(seen[number], boxes)
            dropped |= {own[number][later] for _, later, _ in matched}
            if number in named and number in classes:
                apart = sum(overlap < SAME_BOX for _, _, overlap in matched)
                disputed += apart + len(seen[number]) + len(boxes) - 2 * len(matched)
            taken = {later for _, later, _ in matched}
            seen[number] += [box for at, box in enumerate(boxes) if at not in taken]
        kept += [" ".join(row) for at, row in enumerate(rows) if at not in dropped]
        named |= classes
    return Joined("".join(f"{line}\n" for line in kept), disputed)


def _matches(first: Sequence[Corners], later: Sequence[Corners]) -> list[tuple[int, int, float]]:
    """Return pairs of boxes of one object with their overlap, each box in one pair at most, the closest first."""
    if len(first) * len(later) > MAX_PAIRS:
        return _equals(first, later)
    if not first or not later:
        return []
    one, other = np.array(first)[:, None], np.array(later)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = np.maximum(sides, 0).prod(axis=2)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=2) for boxes in (one, other)]
    overlaps = common / np.maximum(areas[0] + areas[1] - common, np.finfo(float).tiny)
    rows, columns = np.nonzero(overlaps >= SAME_OBJECT)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    matches: list[tuple[int, int, float]] = []
    used = set[int]()
    taken = set[int]()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used and column not in taken:
            matches.append((row, column, float(overlaps[row, column])))
            used.add(row)
            taken.add(column)
    return matches


def _equals(first: Sequence[Corners], later: Sequence[Corners]) -> list[tuple[int, int, float]]:
    """Return pairs of boxes that are equal but for the last digits; fast for any number of them."""
    rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, box in enumerate(first):
        rows[_rounded(box)].append(row)
    return [(own.pop(), column, 1.0) for column, box in enumerate(later) if (own := rows[_rounded(box)])]


def _rounded(box: Corners) -> bytes:
    return (box.round(_DIGITS) + 0.0).tobytes()  # there is a zero below zero


def _box(row: Sequence[str], task: str | None) -> Corners:
    """Return the corners x1, y1, x2, y2 of the upright box of a row."""
    numbers = np.array(row[1:], np.float64)
    box = numbers[:4] if task == "pose" or len(numbers) == 4 else box_around(numbers)
    return np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])

"""No picture on both sides of a split: images that are the same, nearly so, or of one group stay together.

Splits stay as they were declared: an image is never moved to another one. If a set of related images is in several
splits, the split that has most of them keeps its own, and those in the others are left out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tasks.disjoint_sets import DisjointSets

GOLD = "gold"
# Decides between splits that have as many of a set: images to measure on are scarcer than images to train on.
_SCARCITY = {"test": 2, "val": 1, "train": 0}


class ExcludedImage(NamedTuple):
    """An image that the merged dataset does not get: it belongs together with `kept`, which another split has."""

    image: str
    split: str
    kept: str
    kept_split: str
    reason: str


def resolve_leaks(splits: Mapping[str, str], links: Iterable[tuple[str, str, str]]) -> list[ExcludedImage]:
    """Return the images to leave out so that no set of linked images is in two splits, in the order of `splits`.

    Of a set with images of split `gold` these and one other split stay, which is not train. `splits` maps each image
    to its split; a link is (image, other image, reason). Links count onwards: an image that is linked to a linked image
    is in the same set. `kept` is an image that is linked itself, if there is one.
    """
    sets = DisjointSets(splits)
    linked: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one, other, reason in links:
        sets.join(one, other)
        linked[one].setdefault(other, reason)
        linked[other].setdefault(one, reason)
    left_out = {}
    for members in sets.sets():
        if len(members) == 1:
            continue
        staying = {splits[image]: image for image in reversed(members)}
        for image, stays in _choose_excluded(members, splits):
            kept = next((other for other in linked[image] if splits[other] == stays), staying[stays])
            reason = linked[image].get(kept) or next(iter(linked[image].values()))
            left_out[image] = ExcludedImage(image, splits[image], kept, stays, reason)
    return [left_out[image] for image in splits if image in left_out]


def _choose_excluded(members: Sequence[str], splits: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each image of a set that is to be left out, with the split because of which it is."""
    counts = Counter(splits[image] for image in members)
    if counts.pop(GOLD, 0) and counts.pop("train", 0):
        yield from ((image, GOLD) for image in members if splits[image] == "train")
    if counts:
        stays = max(counts, key=lambda split: (counts[split], _SCARCITY[split]))
        yield from ((image, stays) for image in members if splits[image] in counts and splits[image] != stays)


def group_linked_images(images: Mapping[str, str], patterns: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Link images whose paths fit one of the patterns with the same text in the place of `{group}`.

    `images` maps each image to its path. `*` stands for any text without a slash, as in `clip{group}-frame*.jpg`; the
    pattern has to fit the whole path, or its end after a slash.
    """
    for pattern in patterns:
        form = group_expression(pattern)
        first: dict[str, str] = {}
        for image, path in images.items():
            if match := form.search(path):
                earlier = first.setdefault(match["group"], image)
                if earlier != image:
                    yield image, earlier, f"of one group ({match['group']})"


def group_expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern with `{group}` as an atomic expression with a group of that name, which fits a path or its end.

    It is atomic so that no name takes long: each piece is taken at its first place.

    Nothing is lost by that, as the next star or the group takes in all that is left.
    """
    before, _, after = pattern.partition("{group}")
    lead, ending = _pieces(before), _pieces(after)
    start = "".join(f"(?>{piece})" for piece in lead)
    group = f"(?P<group>[^/]+?){ending[0]}"
    end = f"(?>{group}){ending[1]}" if len(ending) == 2 else group
    return re.compile(f"(?:^|/){start}{end}$")


def _pieces(text: str) -> list[str]:
    first, *rest = text.split("*")
    return [re.escape(first), *(f"[^/]*?{re.escape(piece)}" for piece in rest)]

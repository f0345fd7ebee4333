"""Parts made of images, such as train, val and test: related ones stay together, classes are spread evenly.

Sechidis et al., "On the Stratification of Multi-Label Data", 2011, with sets of images in the place of images.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from tasks.dataset.image_stats import ImageStats
from tasks.disjoint_sets import DisjointSets
from tasks.merge.split_leakage import group_linked_images
from tasks.validation.duplicates import find_duplicates


def link_images(
    images: Mapping[str, ImageStats],
    entries: Mapping[str, tuple[int, int]],
    read: Callable[[str], bytes],
    patterns: Sequence[str],
) -> list[tuple[str, str]]:
    """Return the pairs of images of an archive that are the same, nearly so, or of one group of `patterns`.

    `entries` are the CRC-32 and the size of each; `patterns` are as `group_linked_images` takes them.
    """
    twins = find_duplicates(images, entries, dict.fromkeys(images, ("all",)), read)
    groups = group_linked_images({name: name for name in images}, patterns)
    return [*((twin.later, twin.first) for twin in twins), *((one, other) for one, other, _ in groups)]


def split_images(
    classes: Mapping[str, Counter[str | None]],
    links: Iterable[tuple[str, str]],
    shares: Mapping[str, float],
    seed: int,
    kept: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the split of each image.

    `classes` maps each image to how many objects of each class it shows, `shares` each split to its share of the
    images that are placed here; they add up to 1, and no split is empty if there are enough sets of linked images.
    Images in `kept` have their split, which images linked to them get as well. Other linked images get the same split.
    The same arguments give the same splits.
    """
    sets = DisjointSets(classes)
    for one, other in links:
        sets.join(one, other)
    found = dict(kept)
    groups = []
    for group in sets.sets():
        own = next((kept[image] for image in group if image in kept), None)
        if own is None:
            groups.append(group)
        else:
            found |= {image: kept.get(image, own) for image in group}
    random.Random(seed).shuffle(groups)  # noqa: S311 - no secret
    shown = [_sum([Counter({None: len(group)}), *(classes[image] for image in group)]) for group in groups]
    totals = _sum(shown)
    wanted = {
        split: Counter({name: share * count for name, count in totals.items()}) for split, share in shares.items()
    }
    # The rarest class first, as it has the least choice; of a class the largest sets first, which fit worst later.
    rarest = [min((totals[name], str(name)) for name in each) for each in shown]
    order = sorted(range(len(groups)), key=lambda at: (rarest[at], -sum(shown[at].values())))

    def left(split: str, name: str | None) -> float:
        return wanted[split][name] / (shares[split] * totals[name])

    largest = max(shares, key=lambda split: shares[split])
    empty = [split for split in shares if split not in found.values()]
    for place, at in enumerate(order):
        rare = min(shown[at], key=lambda name: (totals[name], str(name)))
        # The emptiest split in proportion: by plain numbers all large sets would be in train.
        roomy = [split for split in shares if wanted[split][None] >= len(groups[at]) / 2]
        # The last sets go where there are none yet.
        open_to = empty if len(order) - place <= len(empty) else roomy or [largest]
        best = max(open_to, key=lambda split: (left(split, rare) + left(split, None), shares[split]))
        empty = [split for split in empty if split != best]
        wanted[best].subtract(shown[at])
        found |= dict.fromkeys(groups[at], best)
    return {image: found[image] for image in classes}


def _sum(counters: Iterable[Counter[str | None]]) -> Counter[str | None]:
    total: Counter[str | None] = Counter()
    for each in counters:
        total.update(each)
    return total

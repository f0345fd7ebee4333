"""Which entry of an archive an annotation means by the name of an image."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.image_stats import is_image
from tasks.dataset.zip_names import normal_name
from tasks.importing.annotations import ImportLog

SUBSETS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_ANY_ENDING = ".*"  # which no image has
_MAX_PARTS = 8  # of a path that is looked for: a hostile one has hundreds


class ImageIndex:
    """The images of an archive, found by what annotations write: a path on another machine, or a bare name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.images = tuple(name for name in names if is_image(name))
        self._by_end: defaultdict[str, list[str]] = defaultdict(list)  # the file, without its ending too, and folders
        self._fittest: dict[tuple[str, int, int, str], list[str]] = {}
        for name in sorted(self.images, key=_place):
            for end in _ends(name):
                self._by_end[end].append(name)
                self._by_end[f"{end.rpartition('.')[0]}{_ANY_ENDING}"].append(name)

    def find(self, written: str, folder: str = "", subset: str = "") -> list[str]:
        """Return the entry of an image that an annotation in `folder` names: none if none has the name.

        Of several entries with the name, the one that fits its place best is taken (`fit`); they are several if nothing
        tells them apart. It takes no longer if very many have the name.
        """
        ends = _ends(normal_name(written))
        end = next((end for end in chain(ends, (f"{end}{_ANY_ENDING}" for end in ends)) if end in self._by_end), None)
        if end is None:
            return []
        named = self._by_end[end]
        start = bisect_left(named, f"{folder}/", key=_place)
        stop = bisect_left(named, f"{folder}0", key=_place)  # the sign after the slash
        key = (end, start, stop, subset) if start < stop else (end, 0, len(named), subset)
        if key not in self._fittest:
            beside = named[key[1] : key[2]]
            self._fittest[key] = [name for name in beside if subset_of(name) == subset] or beside
        return self._fittest[key]


def _place(name: str) -> str:
    return f"{parent_folder(name)}/"


def _ends(path: str) -> list[str]:
    """Return the file with its folders, with fewer and fewer of them, and alone."""
    parts = path.split("/")[-_MAX_PARTS:]
    return ["/".join(parts[at:]) for at in range(len(parts))]


class Fit(NamedTuple):
    """How well an entry fits an annotation: one that is greater fits better."""

    shared_folders: int
    whole_path: bool
    beside: bool
    of_subset: bool


def fit(entry: str, written: str, folder: str, subset: str) -> Fit:
    """Return how well an entry fits the path that an annotation in `folder` writes.

    Most says how many folders at the end of both paths are the same, then whether these are all that is written, then
    whether the entry lies in the folder of the annotation, and last whether it is of the subset.
    """
    folders = normal_name(written).split("/")[:-1]
    shared = _common_end(entry.split("/")[:-1], folders)
    beside = f"{parent_folder(entry)}/".startswith(f"{folder}/")
    return Fit(shared, shared == len(folders), beside, subset_of(entry) == subset)


def _common_end(one: list[str], other: list[str]) -> int:
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count


def assign_subset(subsets: dict[str, str], listed: Iterable[str], subset: str, log: ImportLog) -> None:
    """Put images into a subset; of several it is the last, and told: nobody trains on what something is measured by."""
    own = set(listed)
    for name in sorted(name for name in own if name in subsets):
        log.add(f"changed: an image that is listed in {subsets[name]} and {subset} is in {subset}", name)
    subsets |= dict.fromkeys(own, subset)


def subset_of_image(path: str) -> str:
    """Return the subset that the folders of an image or of its label file name, or else its own name."""
    folder, _, file = path.rpartition("/")
    return subset_of(folder) or subset_of(file)


def subset_of(path: str) -> str:
    """Return train, val or test if a path names one (`annotations/instances_val2017.json`), else an empty text."""
    for part in reversed(path.lower().split("/")):
        for word in part.replace("-", "_").replace(".", "_").split("_"):
            if subset := SUBSETS.get(word.rstrip("0123456789")):
                return subset
    return ""

"""Which entry of an archive an annotation means by the name of an image."""

from collections import defaultdict
from collections.abc import Iterable

from tasks.dataset.image_stats import is_image
from tasks.dataset.zip_names import normal_name

SUBSETS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class ImageIndex:
    """The images of an archive, found by what annotations write: a path on another machine, or a bare name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.images = tuple(name for name in names if is_image(name))
        self._by_file: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.images:
            file = name.rpartition("/")[2]
            self._by_file[file].append(name)
            self._by_stem[file.rpartition(".")[0]].append(name)

    def find(self, written: str, folder: str = "", subset: str = "") -> str | None:
        """Return the entry of an image that an annotation in `folder` names; None if none fits, or several as well.

        Of several entries with the name, the one that shares most of the written path is taken, then one in the folder
        of the annotation, then one of the subset.
        """
        *folders, file = normal_name(written).split("/")
        named = self._by_file.get(file, []) or self._by_stem.get(file, [])
        if len(named) < 2:
            return named[0] if named else None
        scores = {
            name: (_common_end(name.split("/")[:-1], folders), name.startswith(f"{folder}/"), subset_of(name) == subset)
            for name in named
        }
        best = max(scores.values())
        first, *others = [name for name, score in scores.items() if score == best]
        return None if others else first


def _common_end(one: list[str], other: list[str]) -> int:
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count


def subset_of(path: str) -> str:
    """Return train, val or test if a path names one (`annotations/instances_val2017.json`), else an empty text."""
    for part in reversed(path.lower().split("/")):
        for word in part.replace("-", "_").replace(".", "_").split("_"):
            if subset := SUBSETS.get(word.rstrip("0123456789")):
                return subset
    return ""

"""Files beside a merged dataset that say what was written: whoever loads it compares.

`written.json` is small: images and rows of each class by split. `entries.json` names the entry that each image was in
its archive, and is read only if something is missing.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tasks.errors import safe_repr

_WRITTEN = "written.json"
_ENTRIES = "entries.json"


@dataclass
class ImageCounts:
    """How many images a split has, and how many rows of each class; of a tree each image is a row of its class."""

    images: int = 0
    rows: Counter[int] = field(default_factory=Counter)

    def add(self, images: int, rows: Mapping[int, int]) -> None:
        """Count so many images more, and the rows of each class that they show."""
        self.images += images
        self.rows.update(rows)


def count_rows(text: str) -> Counter[int]:
    """Return how many rows of each class a label file has that a merge wrote."""
    return Counter(int(line.partition(" ")[0]) for line in text.split("\n") if line)


def write_manifest(data: Path, splits: Mapping[str, ImageCounts]) -> None:
    """Write the counts of each split beside `data` (data.yaml, or the folder of a tree)."""
    counts = {split: {"images": each.images, "rows": dict(each.rows)} for split, each in splits.items()}
    (_folder(data) / _WRITTEN).write_text(json.dumps(counts), encoding="utf-8")


def read_manifest(data: Path) -> dict[str, ImageCounts]:
    """Return the counts that `write_manifest` wrote; nothing for data that no merge wrote."""
    try:
        counts = json.loads((_folder(data) / _WRITTEN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {
        split: ImageCounts(each["images"], Counter({int(number): count for number, count in each["rows"].items()}))
        for split, each in counts.items()
    }


def write_entries(folder: Path, archives: Mapping[str, tuple[str, Mapping[str, Sequence[str]]]]) -> None:
    """Write into the folder of a dataset, by the prefix of each archive, its name and its images of each split."""
    (folder / _ENTRIES).write_text(json.dumps(archives), encoding="utf-8")


def origin(image: Path) -> str:
    """Return `find_origin` in words."""
    archive, entry = find_origin(image)
    return f"{safe_repr(entry)} of archive {safe_repr(archive)}" if archive else safe_repr(entry)


def find_origin(image: Path) -> tuple[str, str]:
    """Return archive and entry of an image of a merged dataset, or of a link to one; "" and its own name if lost.

    Its name begins with the prefix of its archive and its number in the split: `images/train/00-000003-x.jpg`.
    """
    image = image.resolve()
    split, kind = image.parents[1].name, image.parent.name
    prefix, number, *_ = image.name.split("-")
    try:
        archive, splits = _read_entries(image.parents[2])[prefix]
        return archive, splits[kind if split == "images" else split][int(number)]
    except (FileNotFoundError, LookupError, ValueError):
        return "", image.name


@lru_cache(maxsize=2)  # a merge and its gold archive; a folder is written once
def _read_entries(folder: Path) -> dict[str, tuple[str, dict[str, list[str]]]]:
    entries: dict[str, tuple[str, dict[str, list[str]]]] = json.loads((folder / _ENTRIES).read_text(encoding="utf-8"))
    return entries


def _folder(data: Path) -> Path:
    return data if data.is_dir() else data.parent

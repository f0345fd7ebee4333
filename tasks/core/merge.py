"""How classes of several datasets become one list, whatever their order and spelling."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MergePlan:
    """`class_names` of the merged dataset, and for each dataset its class id -> merged id (None: labels dropped)."""

    class_names: tuple[str, ...]
    class_ids: tuple[tuple[int | None, ...], ...]


def normalised(name: str) -> str:
    """What two spellings of one class have in common: no case, and one space for each run of spaces, `-` and `_`."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def plan_merge(datasets: Sequence[Sequence[str]], renames: Mapping[str, str | None]) -> MergePlan:
    """Merge class lists by name: the first dataset's order, then what the next ones add.

    `renames` maps a class found in any dataset to its name in the merged one, or to None to drop its labels. The
    spelling found first is kept. The result depends on nothing but the arguments.
    """
    targets = {normalised(found): target for found, target in renames.items()}
    merged: dict[str, int] = {}
    names: list[str] = []

    def merged_id(name: str) -> int | None:
        target = targets.get(normalised(name), name)
        if target is None:
            return None
        key = normalised(target)
        if key not in merged:
            merged[key] = len(names)
            names.append(target)
        return merged[key]

    class_ids = tuple(tuple(merged_id(name) for name in dataset) for dataset in datasets)
    return MergePlan(tuple(names), class_ids)


def unknown_renames(datasets: Sequence[Sequence[str]], renames: Mapping[str, str | None]) -> list[str]:
    """Names in `renames` that no dataset has: a misspelling, most likely."""
    present = {normalised(name) for dataset in datasets for name in dataset}
    return [name for name in renames if normalised(name) not in present]


def remap_labels(text: str, class_ids: Sequence[int | None]) -> str:
    """Label rows with merged class ids; rows of dropped classes go, coordinates stay as they were written."""
    rows = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        fields = line.split(maxsplit=1)
        if len(fields) == 2 and (merged := class_ids[int(fields[0])]) is not None:
            rows.append(f"{merged} {fields[1].strip()}\n")
    return "".join(rows)

"""How classes of several archives become one list, whatever their order and spelling."""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import safe_repr
from tasks.merge.conflicts import Conflict, MergeCode, conflict
from tasks.merge.name_typos import find_similar_pairs

Renames = Mapping[str, str | None]
ANY_CLASS = "*"

# A movie and movies become "movy", a horse and horses "hors": it is what they have in common, and nobody sees it.
_ENDINGS = (
    (re.compile(r"(?<=..)ies?$"), "y"),
    (re.compile(r"(?<=.)(s|x|z|ch|sh|o)es?$"), r"\1"),
    (re.compile(r"(?<=...)(?<![sui])s$"), ""),
)


@dataclass(frozen=True)
class ClassPlan:
    """`class_names` of the merged dataset, and for each archive its class id -> merged id (None: labels dropped)."""

    class_names: tuple[str, ...]
    class_ids: tuple[tuple[int | None, ...], ...]


def plan_classes(archives: Sequence[str], names: Sequence[Sequence[str]], renames: Renames) -> ClassPlan:
    """Merge class lists by name: the first archive's order, then what the next ones add.

    `archives` are the archives' names, `names` the class names of each. `renames` maps a class, written as
    `ARCHIVE:CLASS` or as `CLASS` for all archives, to its name in the merged list, or to None to drop its labels; one
    archive's own comes first, the exact spelling before others, and last `*`, which is any class. The spelling found
    first is kept. The result depends on nothing but the arguments.
    """
    fold = _Folding(names)
    everywhere = _table(renames, fold)
    merged: dict[Hashable, int] = {}
    spelled: list[str] = []

    def merged_id(target: str | None) -> int | None:
        if target is None:
            return None
        place = merged.setdefault(fold(target), len(spelled))
        if place == len(spelled):
            spelled.append(target)
        return place

    class_ids = []
    for archive, own in zip(archives, names, strict=True):
        tables = (_table(_own(renames, archive), fold), everywhere)
        class_ids.append(tuple(merged_id(_target(name, fold, tables)) for name in own))
    return ClassPlan(tuple(spelled), tuple(class_ids))


def match_class_ids(own: Sequence[str], other: Sequence[str]) -> tuple[int | None, ...]:
    """Return for each class of one list its place in the other, by the rules of merging; None if it has none."""
    plan = plan_classes(("other", "own"), (other, own), {})
    theirs, ours = plan.class_ids
    places = {merged: place for place, merged in reversed([*enumerate(theirs)])}
    return tuple(places.get(merged) for merged in ours)


def find_unknown_renames(archives: Sequence[str], names: Sequence[Sequence[str]], renames: Renames) -> list[str]:
    """Return the classes in `renames` that no archive has: a misspelling, most likely.

    One that keeps its name is none: it changes nothing.
    """
    fold = _Folding(names)
    present = {fold(name) for own in names for name in own}
    known = {written for written, to in renames.items() if written in {ANY_CLASS, to} or fold(written) in present}
    for archive, own in zip(archives, names, strict=True):
        of_archive = {fold(name) for name in own}
        renamed = _own(renames, archive)
        known |= {f"{archive}:{name}" for name in renamed if name == ANY_CLASS or fold(name) in of_archive}
    return [written for written in renames if written not in known]


def bind_renames(
    renames: Renames,
    archives: Mapping[str, Sequence[str]],
    others: Mapping[str, Sequence[str]],
    merged: Sequence[str],
) -> dict[str, str | None]:
    """Return renames with the same effect on archives of an earlier merge, and none on the names that came of it.

    `archives` are those of the earlier merge that are merged again, with the classes of each, `others` those that are
    merged with them, and `merged` the class names that it gave. What a model has labelled since, or a person for it,
    has these names: a rename that would change them once more is bound to the archives that it was made for. One of a
    class that no archive has is left out.
    """
    present = {**archives, **others}
    unknown = find_unknown_renames([*present], [*present.values()], renames)
    kept = {written: target for written, target in renames.items() if written not in unknown}
    fold = _Folding([*present.values(), merged])
    everywhere = _table(kept, fold)
    bound: dict[str, str | None] = {}
    for name in merged:
        if _target(name, fold, [everywhere]) != name:
            kept = {written: target for written, target in kept.items() if fold(written) != fold(name)}
            bound[name] = name
            for archive, own in archives.items():
                tables = (_table(_own(renames, archive), fold), everywhere)
                same = (each for each in own if fold(each) == fold(name))
                bound |= {f"{archive}:{each}": _target(each, fold, tables) for each in same}
    return kept | bound


def find_similar_names(plan: ClassPlan, renames: Renames) -> Iterator[Conflict]:
    """Yield the pairs of merged classes, never of one archive, whose names are nearly equal: one class, most likely.

    Two classes that are both targets of `renames` were decided by somebody.
    """
    decided = {singularize(normalize_class_name(target)) for target in renames.values() if target is not None}
    names = [singularize(normalize_class_name(name)) for name in plan.class_names]
    owners: list[list[int]] = [[] for _ in names]
    for archive, ids in enumerate(plan.class_ids):
        for merged in set(ids) - {None}:
            owners[merged].append(archive)  # type: ignore[index]
    fix = "If they are one class, map one to the other in merge.classes; else map each to itself."
    for first, later in find_similar_pairs(names, owners):
        if not decided.issuperset((names[first], names[later])):
            found = f"{safe_repr(plan.class_names[first])} and {safe_repr(plan.class_names[later])}"
            yield conflict(MergeCode.SIMILAR_NAMES, "names that tell classes apart", found, fix)


def normalize_class_name(name: str) -> str:
    """Return what spellings of one class have in common: no case, and a space for each run of spaces, `-` and `_`.

    A name of nothing else stays as it is.
    """
    folded = unicodedata.normalize("NFC", name).casefold()
    return re.sub(r"[\s_-]+", " ", folded).strip() or folded


def singularize(name: str) -> str:
    """Return what a normalised name and its simple plural have in common: cats, boxes, berries; not glass, bus, iris.

    It need not be a word.
    """
    for ending, instead in _ENDINGS:
        if ending.search(name):
            return ending.sub(instead, name)
    return name


class _Folding:
    """Maps names of one class to one key. An archive with both `car` and `cars` means two classes, so they stay two."""

    def __init__(self, names: Sequence[Sequence[str]]) -> None:
        counts = (Counter(form for name in own for form in _forms(name)) for own in names)
        self._distinct = {form for own in counts for form, count in own.items() if count > 1}

    def __call__(self, name: str) -> tuple[int, str]:
        return next((form for form in _forms(name) if form not in self._distinct), (2, name))


def _forms(name: str) -> tuple[tuple[int, str], ...]:
    """Return a name from its widest form to its own spelling, which no other name of an archive has."""
    plain = normalize_class_name(name)
    return (0, singularize(plain)), (1, plain), (2, name)


def _own(renames: Renames, archive: str) -> Renames:
    """Return what is decided for one archive alone, by class."""
    prefix = f"{archive}:"
    return {written.removeprefix(prefix): to for written, to in renames.items() if written.startswith(prefix)}


def _table(renames: Renames, fold: _Folding) -> dict[Hashable, str | None]:
    return {key: target for written, target in renames.items() for key in (fold(written), written)}


def _target(name: str, fold: _Folding, tables: Sequence[Mapping[Hashable, str | None]]) -> str | None:
    keys: tuple[Hashable, ...] = (name, fold(name), ANY_CLASS)
    return next((table[key] for table in tables for key in keys if key in table), name)

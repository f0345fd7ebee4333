"""A merge plan as a page of markdown, and as facts that are kept with the training."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tasks.merge.fingerprint import plan_digest
from tasks.merge.label_union import LabelUnion
from tasks.merge.plan import MergePlan
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text

SHOWN = 50
SHOWN_CLASSES = 1000
BESIDE = 4  # archives in one table: more make it too wide
_STOPS = " (stops the merge)"
# A class name can be as long as a data.yaml.
_MAX_NAME = 100


def plan_markdown(plan: MergePlan) -> str:
    """Return classes with their ids in each archive, images by split, conflicts, and what is left out."""
    splits = list(plan.images)
    rows = [
        (archive, *(len(own.get(split, ())) for split in splits))
        for archive, own in zip(plan.archives, plan.splits, strict=True)
    ]
    task = escape_markdown(plan.task or "none in common")
    parts = [
        f"# Merge: archives {len(plan.archives)}, classes {len(plan.classes.class_names)}, task {task}",
        table(("images", *splits), [*rows, ("merged", *plan.images.values())]),
    ]
    if plan.gold:
        gold = escape_markdown(plan.gold.archive)
        parts.append(f"Gold archive {gold}: {len(plan.gold.samples)} images, measured on, never trained on.")
    if plan.united:
        parts.append(f"Pictures that several archives have, each kept once with the labels of all: {len(plan.united)}.")
    if made := len(plan.pseudo_labelled.prefixes):
        parts.append(f"Images of train whose labels a model has made: {made} of {plan.images['train']}.")
    if plan.repeated:
        parts.append(f"Images that a split has once more, and keeps: {plan.repeated}.")
    if plan.conflicts:
        conflicts = [
            f"**{escape_markdown(each.code)}**{_STOPS * each.fatal}: {wrap_text(each.message)}"
            for each in plan.conflicts
        ]
        parts += ["## Conflicts", _first(conflicts)]
    parts += ["## Classes", _classes(plan)]
    if unknown := _unknown_classes(plan):
        texts = [
            f"**{escape_markdown(archive)}**: "
            + wrap_text(", ".join(f"{name[:_MAX_NAME]} {count}" for name, count in counts.items()))
            for archive, counts in unknown.items()
        ]
        parts += ["## Images in which a class is unknown: they teach nothing about it", _first(texts)]
    if plan.united:
        both = [(image, ", ".join(others)) for image, *others in (_copies(plan, each) for each in plan.united)]
        texts = [f"**{wrap_text(image)}** with the labels of {wrap_text(others)}" for image, others in both]
        parts += ["## Labels united", _first(texts)]
    if plan.left_out:
        why = [
            f"**{wrap_text(each.image)}** of {escape_markdown(each.split)}, {escape_markdown(each.reason)}: "
            f"{wrap_text(each.kept)} in {escape_markdown(each.kept_split)}"
            for each in plan.left_out
        ]
        parts += [
            "## Left out, because of images in another split, in gold, or labelled by a person",
            _first(why),
        ]
    return "\n\n".join(parts)


def plan_facts(plan: MergePlan) -> dict[str, Any]:
    """Return the decisions of the plan as plain values for JSON."""
    gold = plan.gold
    return {
        "archives": list(plan.archives),
        "task": plan.task,
        "class_names": list(plan.classes.class_names),
        "archive_class_names": _archive_class_names(plan),
        "class_ids": dict(zip(plan.archives, map(list, plan.classes.class_ids), strict=True)),
        "images": plan.images,
        "repeated": plan.repeated,
        "pseudo_labelled": len(plan.pseudo_labelled.prefixes),
        "keypoints": plan.keypoints and list(plan.keypoints),
        "flip_idx": plan.flip_idx and list(plan.flip_idx),
        "united": [_copies(plan, each) for each in plan.united],
        "gold": gold and {"archive": gold.archive, "class_ids": list(gold.class_ids), "images": len(gold.samples)},
        "digest": plan_digest(plan),
        "unknown_classes": _unknown_classes(plan),
        "conflicts": [{"code": each.code, "fatal": each.fatal, "message": each.message} for each in plan.conflicts],
        "left_out": [each._asdict() for each in plan.left_out],
    }


def _archive_class_names(plan: MergePlan) -> dict[str, list[str]]:
    """Return what each archive, gold too, calls its classes."""
    gold = [(plan.gold.archive, plan.gold.names)] if plan.gold else []
    return {archive: [*names] for archive, names in [*zip(plan.archives, plan.names, strict=True), *gold]}


def _unknown_classes(plan: MergePlan) -> dict[str, dict[str, int]]:
    """Return archive -> class -> in how many of the images that it brings the class is masked."""
    if plan.vocabularies is None:
        return {}
    unknown: dict[str, dict[str, int]] = {}
    for number, (archive, splits) in enumerate(zip(plan.archives, plan.splits, strict=True)):
        seen = Counter(plan.vocabularies.of_archive(number, splits))
        for merged, name in enumerate(plan.classes.class_names):
            if count := sum(images for known, images in seen.items() if merged not in known):
                unknown.setdefault(archive, {})[name] = count
    return unknown


def _copies(plan: MergePlan, united: LabelUnion) -> list[str]:
    """Return the copies of a picture as `ARCHIVE/ENTRY`, first the one that is written."""
    copies = [united.written, *(each for each in united.copies if each != united.written)]
    return [f"{plan.archives[each.archive]}/{each.image}" for each in copies]


def _classes(plan: MergePlan) -> str:
    """A class that an archive calls by several ids is the sum of several of its classes."""
    own: list[defaultdict[int | None, list[str]]] = []
    gold = [(plan.gold.class_ids, plan.gold.names)] if plan.gold else []
    for ids, names in [*zip(plan.classes.class_ids, plan.names, strict=True), *gold]:
        own.append(defaultdict(list))
        for place, (merged, name) in enumerate(zip(ids, names, strict=True)):
            own[-1][merged].append(f"{place} {name[:_MAX_NAME]}")
    merged_names: list[tuple[int | None, str]] = [*enumerate(plan.classes.class_names)]
    if any(None in archive for archive in own):
        merged_names.append((None, "dropped"))
    rows = [
        ("" if merged is None else merged, name[:_MAX_NAME], *(", ".join(ids.get(merged, ["-"])) for ids in own))
        for merged, name in merged_names
    ]
    archives = [*plan.archives, *([f"{plan.gold.archive} (gold)"] if plan.gold else [])]
    tables = [
        table(
            ("id", "class", *(f"in {archive}" for archive in archives[begin : begin + BESIDE])),
            [(*row[:2], *row[2 + begin : 2 + begin + BESIDE]) for row in rows[:SHOWN_CLASSES]],
        )
        for begin in range(0, len(archives), BESIDE)
    ]
    return "\n\n".join([*tables, *_more(len(rows) - SHOWN_CLASSES)])


def _first(texts: Sequence[str]) -> str:
    return "\n\n".join([bullet_list(texts[:SHOWN]), *_more(len(texts) - SHOWN)])


def _more(count: int) -> list[str]:
    return [f"And {count} more."] if count > 0 else []

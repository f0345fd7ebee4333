"""The gold archive: never trained on, so that versions of a model are compared on images that none has seen.

All its images, of whatever split, are measured on. It adds no class: labels of classes that are not trained are
dropped. Images that are trained on and are the same as one of gold, or nearly so, or of its group, are left out of
train. Copies in val and test stay: nothing is learned from those, and gold stays whole for the next version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.dataset.layout import LabelledImage
from tasks.errors import safe_repr
from tasks.merge.class_mapping import match_class_ids, plan_classes
from tasks.merge.compatibility import keypoint_conflicts
from tasks.merge.conflicts import Conflict, MergeCode, conflict
from tasks.merge.inputs import MergeInput, usable_images
from tasks.merge.vocabularies import Vocabularies
from tasks.parameters import MergePolicy

_MAX_NAMES = 300


@dataclass(frozen=True, kw_only=True)
class Gold:
    """The gold archive in a merge: its classes, the merged id of each (None: labels dropped), and all its samples.

    `vocabularies` are None if it labels all merged classes, or if what is not labelled is background.
    """

    archive: str
    names: tuple[str, ...]
    class_ids: tuple[int | None, ...]
    samples: tuple[LabelledImage, ...]
    digest: str = ""
    vocabularies: Vocabularies | None = None


def plan_gold(source: MergeInput, class_names: Sequence[str], policy: MergePolicy) -> Gold:
    """Map the classes of the gold archive onto the merged `class_names`, by the rules of merging and merge.classes."""
    own = plan_classes([source.archive], [source.dataset.class_names], policy.classes)
    trained = match_class_ids(own.class_names, class_names)
    ids = tuple(None if target is None else trained[target] for target in own.class_ids[0])
    samples = {sample.image: sample for split in usable_images(source.dataset, ids).values() for sample in split}
    known = frozenset(merged for merged in ids if merged is not None)
    partial = len(known) < len(class_names) and source.dataset.task != "classify" and policy.partial_labels != "warn"
    return Gold(
        archive=source.archive,
        names=source.dataset.class_names,
        class_ids=ids,
        samples=tuple(samples.values()),
        digest=source.digest,
        vocabularies=Vocabularies((known,), {}) if partial else None,
    )


def gold_conflicts(
    gold: Gold, source: MergeInput, others: Sequence[MergeInput], task: str | None, policy: MergePolicy
) -> Iterator[Conflict]:
    """Yield what the gold archive and the merged ones disagree about."""
    own = source.dataset.task
    boxes_do = policy.boxes_from_polygons and (own, task) == ("segment", "detect")
    if task and own not in {task, None} and not boxes_do:
        found = f"{own} in {safe_repr(gold.archive)}"
        fix = "Name another one in promotion.gold."
        yield conflict(MergeCode.TASK, f"a gold archive for the task {task}", found, fix, fatal=True)
    # One of the others will do, they agree; and if only some say how to mirror, nothing is mirrored to be measured.
    posed = [other for other in others if other.dataset.task == "pose"]
    first = sorted(posed, key=lambda other: other.dataset.flip_idx is None)[:1]
    yield from (each for each in keypoint_conflicts([source, *first]) if each.fatal)
    yield from _class_conflicts(gold, policy)


def _class_conflicts(gold: Gold, policy: MergePolicy) -> Iterator[Conflict]:
    """Yield the gold classes that nobody trains; those that merge.classes drops were decided by somebody."""
    if not gold.samples or not any(merged is not None for merged in gold.class_ids):
        found = f"only {safe_repr(list(gold.names), _MAX_NAMES)} in {safe_repr(gold.archive)}"
        fix = "Name another archive in promotion.gold, or map its classes in merge.classes."
        expected = "a gold archive with images of classes that are trained"
        yield conflict(MergeCode.GOLD, expected, found, fix, fatal=True)
        return
    targets = plan_classes([gold.archive], [gold.names], policy.classes).class_ids[0]
    mapped = zip(gold.names, targets, gold.class_ids, strict=True)
    if unknown := [name for name, target, merged in mapped if target is not None and merged is None]:
        lost = "which no archive trains: their labels (of a tree, their images) are left out"
        found = f"{safe_repr(unknown, _MAX_NAMES)} in {safe_repr(gold.archive)}, {lost}"
        fix = f"Map them in merge.classes, as '{gold.archive}:CLASS', train them, or ignore this."
        yield conflict(MergeCode.GOLD, "gold classes that are trained", found, fix)

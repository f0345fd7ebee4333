"""The merge plan: the samples and class ids of every archive, and the images left out, before a file is written."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.merge.class_mapping import ClassPlan, Renames, find_unknown_renames, plan_classes
from tasks.merge.compatibility import (
    agreed_task,
    class_conflicts,
    disputed_folders,
    disputed_labels,
    empty_splits,
    keypoint_conflicts,
    partial_labels,
    partial_labels_of_one_class,
)
from tasks.merge.conflicts import Conflict
from tasks.merge.deduplication import deduplicate
from tasks.merge.gold import Gold, gold_conflicts, plan_gold
from tasks.merge.inputs import MergeInput, Splits, usable_images
from tasks.merge.label_union import ImageCopy, LabelUnion
from tasks.merge.pseudo_labelled_file import PseudoLabelled
from tasks.merge.pseudo_labels import (
    ArchiveLabels,
    copied_label_conflicts,
    is_pseudo_labelled,
    plan_pseudo_labelled,
    pseudo_label_conflicts,
)
from tasks.merge.split_leakage import GOLD, ExcludedImage
from tasks.merge.vocabularies import Vocabularies, plan_vocabularies
from tasks.parameters import MergePolicy


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """`splits` holds the samples that the merged dataset gets of each archive, `names` its own classes.

    Images of `left_out` are written `ARCHIVE/ENTRY`. `repeated` counts images that a split has once more. If a conflict
    is fatal nothing can be merged. `digests` are the SHA-256 of the archives in hex, empty if not known. `task` is None
    if no archive has a single label (or if they disagree). `united` are the pictures that several archives have, which
    are written once with the labels of all; the other copies are not among `splits`. `vocabularies` are None if all
    that is not labelled is background. `entries` are the checksum and size of each image, as in `MergeInput`.
    `pseudo_labelled` are the images whose labels a model has made.
    """

    archives: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    task: str | None
    keypoints: tuple[int, int] | None
    flip_idx: tuple[int, ...] | None
    classes: ClassPlan
    splits: tuple[Splits, ...]
    left_out: tuple[ExcludedImage, ...]
    repeated: int
    conflicts: tuple[Conflict, ...]
    digests: tuple[str, ...] = ()
    entries: tuple[Mapping[str, tuple[int, int]], ...] = ()
    gold: Gold | None = None
    united: tuple[LabelUnion, ...] = ()
    vocabularies: Vocabularies | None = None
    pseudo_labelled: PseudoLabelled = field(default_factory=PseudoLabelled)

    @property
    def images(self) -> dict[str, int]:
        """Return the number of images of each split, train first; those of the gold archive are not among them."""
        counts: Counter[str] = Counter()
        for own in self.splits:
            counts.update({split: len(samples) for split, samples in own.items()})
        return {split: counts[split] for split in ("train", "val", "test") if counts[split]}


def plan_merge(sources: Sequence[MergeInput], policy: MergePolicy, gold: MergeInput | None = None) -> MergePlan:
    """Decide how archives become one dataset; the same sources in the same order give the same plan anywhere.

    `gold` is an archive to measure on alone: see `tasks.merge.gold`.
    """
    archives = [source.archive for source in sources]
    names = [source.dataset.class_names for source in sources]
    classes = plan_classes(archives, names, policy.classes)
    task, conflicts = agreed_task(sources, policy)
    samples = [usable_images(source.dataset, ids) for source, ids in zip(sources, classes.class_ids, strict=True)]
    measured = plan_gold(gold, classes.class_names, policy) if gold else None
    golden = (gold, {GOLD: measured.samples}) if gold and measured else None
    unites = task not in {None, "classify"}
    left = deduplicate(sources, samples, policy.groups, golden, unites=unites)
    united = left.united if unites else ()
    vocabularies = plan_vocabularies(classes, left.splits, united)
    conflicts += keypoint_conflicts(sources)
    conflicts += class_conflicts(names, classes, _unknown_rename_conflicts(sources, gold, policy.classes), policy)
    if task == "classify":
        conflicts += disputed_folders(sources, classes, left.united)
    else:
        conflicts += partial_labels(archives, classes, left.splits, vocabularies, policy)
        conflicts += partial_labels_of_one_class(archives, names, left.splits, united, policy)
        conflicts += disputed_labels(sources, classes, united, task)
    conflicts += empty_splits(sources, left.splits)
    conflicts += pseudo_label_conflicts(sources, samples, gold)
    labels = dict(enumerate(map(ArchiveLabels, sources, classes.class_ids)))
    if gold and measured:
        labels[-1] = ArchiveLabels(gold, measured.class_ids)
    measured_on, made = _measured_on(left.splits, united, measured), _made(sources, samples)
    conflicts += copied_label_conflicts(labels, measured_on, made, left.alike, task)
    conflicts += gold_conflicts(measured, gold, sources, task, policy) if gold and measured else ()
    posed = [source.dataset for source in sources if source.dataset.task == "pose"]
    return MergePlan(
        archives=tuple(archives),
        names=tuple(names),
        task=task,
        keypoints=next((dataset.keypoints for dataset in posed), None),
        flip_idx=next((dataset.flip_idx for dataset in posed if dataset.flip_idx), None),
        classes=classes,
        splits=left.splits,
        left_out=left.left_out,
        repeated=left.repeated,
        conflicts=tuple(conflicts),
        digests=tuple(source.digest for source in sources),
        entries=tuple(source.entries for source in sources),
        gold=measured,
        united=united,
        vocabularies=vocabularies if any(each.settled for each in conflicts) else None,
        pseudo_labelled=plan_pseudo_labelled(sources, left.splits),
    )


def _measured_on(splits: Sequence[Splits], united: Sequence[LabelUnion], gold: Gold | None) -> Iterator[ImageCopy]:
    """Yield the images that are measured on, and those whose labels they get besides; the gold archive is number -1."""
    own = {
        ImageCopy(number, each.image, each.label)
        for number, of_archive in enumerate(splits)
        for split, samples in of_archive.items()
        if split != "train"
        for each in samples
    }
    more = {copy for union in united if union.written in own for copy in union.copies}
    yield from sorted(own | more, key=lambda copy: copy[:2])
    yield from (ImageCopy(-1, each.image, each.label) for each in (gold.samples if gold else ()))


def _made(sources: Sequence[MergeInput], samples: Sequence[Splits]) -> Iterator[ImageCopy]:
    """Yield the images that a model has labelled, those too that are left out."""
    for number, (source, splits) in enumerate(zip(sources, samples, strict=True)):
        for each in splits.get("train", ()):
            if is_pseudo_labelled(source, each):
                yield ImageCopy(number, each.image, each.label)


def blocking_conflicts(plan: MergePlan, policy: MergePolicy) -> list[Conflict]:
    """Return the conflicts that forbid the merge, fatal ones first; `on_conflict: fail` leaves the settled ones out."""
    strict = policy.on_conflict == "fail"
    blocking = [conflict for conflict in plan.conflicts if conflict.fatal or (strict and not conflict.settled)]
    return sorted(blocking, key=lambda conflict: not conflict.fatal)


def _unknown_rename_conflicts(sources: Sequence[MergeInput], gold: MergeInput | None, renames: Renames) -> list[str]:
    """Return the classes of merge.classes that no archive has; those of gold are merged by themselves."""
    unknown = [
        find_unknown_renames([each.archive for each in group], [each.dataset.class_names for each in group], renames)
        for group in (sources, [gold] if gold else [])
    ]
    return [written for written in unknown[0] if written in unknown[1]]

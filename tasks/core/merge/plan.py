"""The merge plan: what every archive brings, under which class ids, and what is left out, before a file is written."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.core.dataset import Dataset, Sample, class_folder
from tasks.core.findings import explain, quoted
from tasks.core.images import ImageTraits
from tasks.core.merge.classes import ClassPlan, plan_classes, similar_names, unknown_renames
from tasks.core.merge.conflicts import Conflict, MergeCode
from tasks.core.merge.leaks import LeftOut, group_links, settle
from tasks.core.parameters import MergePolicy
from tasks.core.validation.duplicates import find_twins

_SHOWN = 5
_MAX_NAMES = 300
Splits = Mapping[str, tuple[Sample, ...]]


@dataclass(frozen=True)
class Source:
    """An archive that was found valid: its name, its layout with the task, and what its check saw of its images.

    `entries` maps each image to the checksum and size of the zip's directory; `read` returns an entry's bytes.
    """

    archive: str
    dataset: Dataset
    images: Mapping[str, ImageTraits]
    entries: Mapping[str, tuple[int, int]]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class MergePlan:
    """`splits` holds the samples that the merged dataset gets of each archive, `names` its own classes.

    Images of `left_out` are written `ARCHIVE/ENTRY`. `repeated` counts images that a split has once more. Where a
    conflict is fatal nothing can be merged.
    """

    archives: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    task: str | None
    keypoints: tuple[int, int] | None
    classes: ClassPlan
    splits: tuple[Splits, ...]
    left_out: tuple[LeftOut, ...]
    repeated: int
    conflicts: tuple[Conflict, ...]

    @property
    def images(self) -> dict[str, int]:
        """Return the number of images of each split, train first."""
        counts: Counter[str] = Counter()
        for own in self.splits:
            counts.update({split: len(samples) for split, samples in own.items()})
        return {split: counts[split] for split in ("train", "val", "test") if counts[split]}


def plan_merge(sources: Sequence[Source], policy: MergePolicy) -> MergePlan:
    """Decide how archives become one dataset; the same sources in the same order give the same plan anywhere."""
    archives = [source.archive for source in sources]
    names = [source.dataset.class_names for source in sources]
    classes = plan_classes(archives, names, policy.classes)
    task, conflicts = _task(sources, policy)
    offered = [_offered(source.dataset, ids) for source, ids in zip(sources, classes.class_ids, strict=True)]
    splits, left_out, repeated = _settled(sources, offered, policy)
    conflicts += _keypoint_conflicts(sources)
    conflicts += _class_conflicts(archives, names, classes, policy)
    conflicts += _partial_labels(archives, classes) if task != "classify" else ()
    conflicts += _empty_splits(sources, splits)
    return MergePlan(
        archives=tuple(archives),
        names=tuple(names),
        task=task,
        keypoints=sources[0].dataset.keypoints,
        classes=classes,
        splits=splits,
        left_out=left_out,
        repeated=repeated,
        conflicts=tuple(conflicts),
    )


def stopping(plan: MergePlan, policy: MergePolicy) -> list[Conflict]:
    """Return the conflicts that forbid the merge, fatal ones first; with `on_conflict: fail` these are all."""
    found = [conflict for conflict in plan.conflicts if conflict.fatal or policy.on_conflict == "fail"]
    return sorted(found, key=lambda conflict: not conflict.fatal)


def _offered(dataset: Dataset, class_ids: Sequence[int | None]) -> Splits:
    """Return the samples without the images of dropped classes; elsewhere than in a tree those lose labels alone."""
    if dataset.task != "classify":
        return dataset.splits
    dropped = {name for name, merged in zip(dataset.class_names, class_ids, strict=True) if merged is None}
    return {
        split: tuple(sample for sample in samples if class_folder(sample.image) not in dropped)
        for split, samples in dataset.splits.items()
    }


def _task(sources: Sequence[Source], policy: MergePolicy) -> tuple[str | None, list[Conflict]]:
    """An archive without a single row fits any task."""
    tasks = {source.dataset.task for source in sources} - {None}
    boxes_do = tasks == {"detect", "segment"}
    if policy.boxes_from_polygons and (boxes_do or tasks == {"segment"}):
        return "detect", []
    if len(tasks) < 2:
        return next(iter(tasks), None), []
    found = ", ".join(f"{source.dataset.task} in {quoted(source.archive)}" for source in sources if source.dataset.task)
    choice = ", or set merge.boxes_from_polygons to train on the boxes around the polygons" if boxes_do else ""
    message = explain("archives of one task", found, f"Train them apart{choice}.")
    return None, [Conflict(MergeCode.TASK, message, fatal=True)]


def _keypoint_conflicts(sources: Sequence[Source]) -> list[Conflict]:
    posed = [source for source in sources if source.dataset.task == "pose"]
    if len({source.dataset.keypoints for source in posed}) < 2:
        return []
    found = ", ".join(f"{list(source.dataset.keypoints or ())} in {quoted(source.archive)}" for source in posed)
    fix = "Export them with the same keypoints, or train them apart."
    return [Conflict(MergeCode.KEYPOINTS, explain("one kpt_shape in all archives", found, fix), fatal=True)]


def _class_conflicts(
    archives: Sequence[str], names: Sequence[Sequence[str]], classes: ClassPlan, policy: MergePolicy
) -> list[Conflict]:
    conflicts = []
    if unknown := unknown_renames(archives, names, policy.classes):
        known = sorted({name for own in names for name in own})
        found = f"{quoted(unknown[:_SHOWN], _MAX_NAMES)}, but the archives have {quoted(known, _MAX_NAMES)}"
        message = explain("classes of these archives in merge.classes", found, "Correct the spelling or the archive.")
        conflicts.append(Conflict(MergeCode.UNKNOWN_CLASS, message, fatal=True))
    if not classes.class_names:
        message = explain("at least one class", "none", "merge.classes drops them all: keep one.")
        conflicts.append(Conflict(MergeCode.NO_CLASS, message, fatal=True))
    return [*conflicts, *similar_names(classes, policy.classes)]


def _partial_labels(archives: Sequence[str], classes: ClassPlan) -> Iterator[Conflict]:
    """Where an archive does not name a class, its objects there would be trained on as background.

    One conflict for all classes that the same archives lack.
    """
    present = [set(ids) for ids in classes.class_ids]
    lacking: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for merged, name in enumerate(classes.class_names):
        lacks = tuple(archive for archive, ids in zip(archives, present, strict=True) if merged not in ids)
        if lacks:
            lacking[lacks].append(name)
    fix = "If images there show any, label them there or drop the class with merge.classes; else ignore this."
    for lacks, names in lacking.items():
        expected = f"the classes {quoted(names, _MAX_NAMES)} in every archive"
        found = f"none of these in {quoted(list(lacks), _MAX_NAMES)}"
        yield Conflict(MergeCode.PARTIAL_LABELS, explain(expected, found, fix))


def _settled(
    sources: Sequence[Source], offered: Sequence[Splits], policy: MergePolicy
) -> tuple[tuple[Splits, ...], tuple[LeftOut, ...], int]:
    """Return the samples that stay, the images that would be in two splits, and how many are in one split twice."""
    split_of: dict[str, str] = {}
    paths: dict[str, str] = {}
    images: dict[str, ImageTraits] = {}
    entries: dict[str, tuple[int, int]] = {}
    for number, (source, own) in enumerate(zip(sources, offered, strict=True)):
        for split, samples in own.items():
            for name in (sample.image for sample in samples):
                key = f"{number}/{name}"
                split_of[key], paths[key] = split, name
                if name in source.images:
                    images[key], entries[key] = source.images[name], source.entries[name]

    def read(key: str) -> bytes:
        return sources[int(key.partition("/")[0])].read(paths[key])

    def named(key: str) -> str:
        return f"{sources[int(key.partition('/')[0])].archive}/{paths[key]}"

    twins = find_twins(images, entries, {key: [split] for key, split in split_of.items()}, read)
    links = [(twin.later, twin.first, "the same image" if twin.exact else "nearly the same image") for twin in twins]
    left_out = settle(split_of, [*links, *group_links(paths, policy.groups)])
    gone = {each.image for each in left_out}
    splits = tuple(
        {
            split: tuple(sample for sample in samples if f"{number}/{sample.image}" not in gone)
            for split, samples in own.items()
        }
        for number, own in enumerate(offered)
    )
    repeated = sum(twin.exact and gone.isdisjoint((twin.later, twin.first)) for twin in twins)
    told = tuple(each._replace(image=named(each.image), kept=named(each.kept)) for each in left_out)
    return splits, told, repeated


def _empty_splits(sources: Sequence[Source], splits: Sequence[Splits]) -> Iterator[Conflict]:
    """Training does without a test split, but not unasked."""
    declared = {split for source in sources for split, samples in source.dataset.splits.items() if samples}
    for split in sorted(declared):
        if not any(own.get(split) for own in splits):
            found = "none left: each is of a dropped class, or the same as one of another split, or of its group"
            fix = "Split the images anew, all frames of a video to one side."
            message = explain(f"images in {split}", found, fix)
            yield Conflict(MergeCode.SPLIT_EMPTY, message, fatal=split != "test")

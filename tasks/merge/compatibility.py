"""Do the archives agree about task, keypoints and classes? Each rule yields what they disagree about."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tasks.dataset.layout import class_folder
from tasks.errors import safe_repr
from tasks.merge.class_mapping import ANY_CLASS, ClassPlan, find_similar_names, plan_classes
from tasks.merge.conflicts import Conflict, MergeCode, conflict
from tasks.merge.inputs import MergeInput, Splits
from tasks.merge.label_union import ImageCopy, LabelUnion, joined_labels
from tasks.merge.vocabularies import Vocabularies, plan_vocabularies
from tasks.parameters import MergePolicy

_SHOWN = 5
_MAX_NAMES = 300
_PARTIAL_FIX = {
    "mask": "Images there teach nothing about these classes, and are not counted for them; if they show none, set "
    "merge.partial_labels to warn, which takes them for background.",
    "warn": "If images there show any, label them there, drop the class with merge.classes, or set "
    "merge.partial_labels to mask; else ignore this.",
    "fail": "Label them there, drop the class with merge.classes, or set merge.partial_labels to mask.",
}


def agreed_task(sources: Sequence[MergeInput], policy: MergePolicy) -> tuple[str | None, list[Conflict]]:
    """Return the task of all archives; one without a single row fits any."""
    tasks = {source.dataset.task for source in sources} - {None}
    boxes_do = tasks == {"detect", "segment"}
    if policy.boxes_from_polygons and (boxes_do or tasks == {"segment"}):
        return "detect", []
    if len(tasks) < 2:
        return next(iter(tasks), None), []
    found = ", ".join(
        f"{source.dataset.task} in {safe_repr(source.archive)}" for source in sources if source.dataset.task
    )
    choice = ", or set merge.boxes_from_polygons to train on the boxes around the polygons" if boxes_do else ""
    return None, [conflict(MergeCode.TASK, "archives of one task", found, f"Train them apart{choice}.", fatal=True)]


def keypoint_conflicts(sources: Sequence[MergeInput]) -> Iterator[Conflict]:
    """Yield what archives of poses disagree about: keypoints, and which of them change sides in a mirrored image.

    If only some say the latter, it holds for all, and there is a conflict that stops nothing.
    """
    shapes = {source.archive: source.dataset.keypoints for source in sources if source.dataset.task == "pose"}
    flips = {source.archive: source.dataset.flip_idx for source in sources if source.dataset.task == "pose"}
    if len(set(shapes.values())) > 1:
        fix = "Export them with the same keypoints, or train them apart."
        yield _keypoint_conflict("kpt_shape", shapes, fix, fatal=True)
    elif len(set(flips.values())) > 1:
        several = len(set(flips.values()) - {None}) > 1
        fix = "Export them with the keypoints in one order, or train them apart."
        common = "The one that is there is used for all: correct it if the order of keypoints differs."
        yield _keypoint_conflict("flip_idx", flips, fix if several else common, fatal=several)


def _keypoint_conflict(
    key: str, by_archive: Mapping[str, tuple[int, ...] | None], fix: str, *, fatal: bool
) -> Conflict:
    found = ", ".join(f"{list(value or ()) or 'none'} in {safe_repr(archive)}" for archive, value in by_archive.items())
    return conflict(MergeCode.KEYPOINTS, f"one {key} in all archives", found, fix, fatal=fatal)


def class_conflicts(
    names: Sequence[Sequence[str]], classes: ClassPlan, unknown: Sequence[str], policy: MergePolicy
) -> Iterator[Conflict]:
    """Yield what is wrong with the classes; `unknown` are those of merge.classes that no archive has."""
    if unknown:
        known = sorted({name for own in names for name in own})
        found = f"{safe_repr(unknown[:_SHOWN], _MAX_NAMES)}, but the archives have {safe_repr(known, _MAX_NAMES)}"
        expected = "classes of these archives in merge.classes"
        fix = "Correct the spelling or the archive."
        yield conflict(MergeCode.UNKNOWN_CLASS, expected, found, fix, fatal=True)
    if not classes.class_names:
        fix = "merge.classes drops them all: keep one."
        yield conflict(MergeCode.NO_CLASS, "at least one class", "none", fix, fatal=True)
    yield from find_similar_names(classes, policy.classes)


def partial_labels(
    archives: Sequence[str],
    classes: ClassPlan,
    splits: Sequence[Splits],
    vocabularies: Vocabularies,
    policy: MergePolicy,
) -> Iterator[Conflict]:
    """Yield one conflict for all classes that the same archives lack: are objects there unknown, or background?

    An archive does not lack a class if others have labelled it in all its images.
    """
    choice = policy.partial_labels
    for expected, found in _lacking(archives, classes, splits, vocabularies):
        fatal, settled = choice == "fail", choice == "mask"
        yield conflict(MergeCode.PARTIAL_LABELS, expected, found, _PARTIAL_FIX[choice], fatal=fatal, settled=settled)


def partial_labels_of_one_class(
    archives: Sequence[str],
    names: Sequence[Sequence[str]],
    splits: Sequence[Splits],
    united: Sequence[LabelUnion],
    policy: MergePolicy,
) -> Iterator[Conflict]:
    """Yield the same for classes that `*` in merge.classes makes one.

    What an archive leaves unlabelled may be of this class, so it cannot be masked.
    """
    one = policy.classes.get(ANY_CLASS)
    if one is None:
        return
    apart = plan_classes(archives, names, {written: to for written, to in policy.classes.items() if to != one})
    fix = f"{safe_repr(one)} is all of them. If images there show none, set merge.partial_labels to warn; else label "
    fix += "them there, or train classes apart: without single_cls, and without * in merge.classes."
    for expected, found in _lacking(archives, apart, splits, plan_vocabularies(apart, splits, united)):
        yield conflict(MergeCode.PARTIAL_LABELS, expected, found, fix, fatal=policy.partial_labels != "warn")


def _lacking(
    archives: Sequence[str], classes: ClassPlan, splits: Sequence[Splits], vocabularies: Vocabularies
) -> Iterator[tuple[str, str]]:
    """Yield for all classes that the same archives lack what was expected and what was found."""
    lacking: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    everything = frozenset(range(len(classes.class_names)))
    present = [everything.intersection(*vocabularies.of_archive(*each)) for each in enumerate(splits)]
    for merged, name in enumerate(classes.class_names):
        lacks = tuple(archive for archive, ids in zip(archives, present, strict=True) if merged not in ids)
        if lacks:
            lacking[lacks].append(name)
    for lacks, missing in lacking.items():
        expected = f"the classes {safe_repr(missing, _MAX_NAMES)} in every archive"
        yield expected, f"none of these in {safe_repr(list(lacks), _MAX_NAMES)}"


def disputed_labels(
    sources: Sequence[MergeInput], classes: ClassPlan, united: Sequence[LabelUnion], task: str | None
) -> Iterator[Conflict]:
    """Yield one conflict for all rows that archives disagree about, of pictures and classes that several have."""
    ids = classes.class_ids

    def read(copy: ImageCopy) -> bytes:
        return sources[copy.archive].read(copy.label) if copy.label else b""

    shared = (each for each in united if _share(ids, each))
    disputed = [(count, each) for each in shared if (count := joined_labels(each.copies, read, ids, task).disputed)]
    if disputed:
        rows = sum(count for count, _ in disputed)
        expected = "archives that agree about the classes that they share in pictures that both have"
        found = f"{rows} labels in {len(disputed)} pictures that one of them lacks or draws otherwise"
        fix = "All are kept, of two boxes of one object the first archive's. Correct the labels that are wrong."
        yield conflict(MergeCode.LABELS, expected, f"{found}, such as {_copies(sources, disputed[0][1])}", fix)


def disputed_folders(
    sources: Sequence[MergeInput], classes: ClassPlan, united: Sequence[LabelUnion]
) -> Iterator[Conflict]:
    """Yield one conflict for all pictures that lie in a folder of another class in another archive, of trees."""

    def merged(copy: ImageCopy) -> int | None:
        names = sources[copy.archive].dataset.class_names
        return classes.class_ids[copy.archive][names.index(class_folder(copy.image))]

    if disputed := [each for each in united if len({merged(copy) for copy in each.copies}) > 1]:
        found = f"some in folders of several: {len(disputed)}, such as {_copies(sources, disputed[0])}"
        fix = "All are kept, so the model is taught both. Take the wrong ones out, or map one class to the other."
        yield conflict(MergeCode.LABELS, "each picture in one class", found, fix)


def _copies(sources: Sequence[MergeInput], united: LabelUnion) -> str:
    return " and ".join(safe_repr(f"{sources[copy.archive].archive}/{copy.image}") for copy in united.copies)


def _share(ids: Sequence[Sequence[int | None]], united: LabelUnion) -> bool:
    """Return whether two of the archives that have a picture name one class: else they cannot disagree."""
    known = [merged for archive in {copy.archive for copy in united.copies} for merged in {*ids[archive]} - {None}]
    return len(known) > len(set(known))


def empty_splits(sources: Sequence[MergeInput], splits: Sequence[Splits]) -> Iterator[Conflict]:
    """Yield the declared splits without an image; training needs no test split, but its owner should know."""
    declared = {split for source in sources for split, samples in source.dataset.splits.items() if samples}
    if "val" not in declared:
        found = "none: a model has labelled all images of these archives"
        fix = "Merge them with an archive that a person has labelled."
        yield conflict(MergeCode.SPLIT_EMPTY, "images in val", found, fix, fatal=True)
    found = (
        "none left: each is of a dropped class, or the same as one of another split or of the gold archive, or of its "
        "group"
    )
    fix = "Split the images anew, all frames of a video to one side."
    for split in sorted(declared):
        if not any(own.get(split) for own in splits):
            yield conflict(MergeCode.SPLIT_EMPTY, f"images in {split}", found, fix, fatal=split != "test")

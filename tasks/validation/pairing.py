"""Images without labels, labels without images, and labels that belong to two images."""

from collections import defaultdict
from collections.abc import Iterator

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.findings import Finding, error, warning
from tasks.dataset.image_stats import is_unsupported_image
from tasks.dataset.layout import Dataset, class_folder
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy

_NOT_LABELS = ("classes.txt", "predefined_classes.txt", "notes.txt", "labels.txt", "readme")


def pairing_findings(archive: Archive, dataset: Dataset, policy: ValidationPolicy) -> list[Finding]:
    """Return image-no-split, label-ambiguous, label-orphan and image-unlabelled; a tree has no labels to be paired."""
    if dataset.task == "classify":
        return _unsplit(dataset)
    return [*_unsplit(dataset), *_ambiguous(dataset), *_orphans(archive, dataset), *_unlabelled(dataset, policy)]


def _unsplit(dataset: Dataset) -> list[Finding]:
    """Return one finding for all; of a tree, images in a folder that is named like a class count as labelled."""
    if not all(dataset.splits.get(split) for split in dataset.required_splits):
        return []  # a finding of data.yaml says why
    used = {sample.image for samples in dataset.splits.values() for sample in samples}
    of_tree = dataset.task == "classify"
    left = [
        image
        for image, label in dataset.labels.items()
        if image not in used and (class_folder(image) in dataset.class_names if of_tree else label)
    ]
    if not left:
        return []
    found = f"{len(left)} that are in none and that nothing uses, such as {safe_repr(left[0])}"
    fix = "Add them to a split in data.yaml (of a tree, move them into train or val), or take them out."
    return [warning(Code.IMAGE_NO_SPLIT, "all labelled images in train, val or test", found, fix, path=left[0])]


def _ambiguous(dataset: Dataset) -> list[Finding]:
    images_of: defaultdict[str, list[str]] = defaultdict(list)
    for image in filter(dataset.labels.get, dataset.labels):
        images_of[image.rpartition(".")[0]].append(image)
    fix = "Keep one of them, or rename the others together with their labels."
    return [
        error(Code.LABEL_AMBIGUOUS, "one image for a label", " and ".join(images), fix, path=images[1])
        for images in images_of.values()
        if len(images) > 1
    ]


def _orphans(archive: Archive, dataset: Dataset) -> Iterator[Finding]:
    """Check the text files in folders called labels, and those beside labels that have their image."""
    used = {label for label in dataset.labels.values() if label}
    folders = {parent_folder(label) for label in used}
    foreign = {name.rpartition(".")[0].rpartition("/")[2] for name in archive.entries if is_unsupported_image(name)}
    for name in sorted(archive.entries):
        stem, _, ending = name.rpartition("/")[2].rpartition(".")
        is_label = ending.lower() == "txt" and not name.rpartition("/")[2].lower().startswith(_NOT_LABELS)
        if not is_label or name in used or name in dataset.lists or stem in foreign:
            continue
        if parent_folder(name) in folders or "labels" in name.split("/")[:-1]:
            fix = "Add the image, or remove this file; the names must agree to the letter, capitals too."
            yield warning(Code.LABEL_ORPHAN, "an image for each label file", "none", fix, path=name)


def _unlabelled(dataset: Dataset, policy: ValidationPolicy) -> list[Finding]:
    label_of = {sample.image: sample.label for samples in dataset.splits.values() for sample in samples}
    bare = [image for image, label in label_of.items() if label is None]
    if len(bare) <= policy.max_unlabelled_share * len(label_of):
        return []
    expected = f"a label file for at least {1 - policy.max_unlabelled_share:.0%} of the images"
    found = f"{len(bare)} of {len(label_of)} images without one"
    fix = "Label them, check that images and labels have the same names, or raise max_unlabelled_share."
    return [warning(Code.IMAGE_UNLABELLED, expected, found, fix, path=bare[0])]

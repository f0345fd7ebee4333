"""Counts of images and labels by split and class, and the size that each label file refers to."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from tasks.dataset.findings import Finding, SplitStatistics, Statistics
from tasks.dataset.image_stats import ImageStats
from tasks.dataset.layout import Dataset, LabelledImage, class_folder, split_empty
from tasks.validation.label_table import LabelTable


def count_splits(dataset: Dataset, labels: LabelTable) -> Statistics:
    """Count for each split its images, those with a label, and the labels of each class.

    An image of a classification tree counts as one label of the class that its folder names.
    """
    count = _count_folders if dataset.task == "classify" else _count_labels
    splits = {split: count(samples, dataset, labels) for split, samples in dataset.splits.items()}
    return Statistics(task=labels.task or dataset.task, class_names=list(dataset.class_names), splits=splits)


def unlabelled_splits(dataset: Dataset, statistics: Statistics) -> Iterator[Finding]:
    """Yield split-empty for each split whose images have no label at all.

    Of an archive that is made with a model's help there may be nothing in it: beside others that is background.
    """
    for split, counts in statistics.splits.items():
        if counts.images and not counts.labelled and "val" in dataset.required_splits:
            yield split_empty(split, f"{counts.images} images without a single label", has_images=True)


def label_sizes(dataset: Dataset, images: Mapping[str, ImageStats]) -> dict[str, tuple[int, int]]:
    """Return the width and height in pixels of the image of each label file, as far as it decodes."""
    return {
        label: (images[image].width, images[image].height)
        for image, label in dataset.labels.items()
        if label and image in images
    }


def _count_folders(samples: tuple[LabelledImage, ...], _dataset: Dataset, _labels: LabelTable) -> SplitStatistics:
    instances = Counter(class_folder(sample.image) for sample in samples)
    return SplitStatistics(images=len(samples), labelled=len(samples), instances=dict(instances))


def _count_labels(samples: tuple[LabelledImage, ...], dataset: Dataset, labels: LabelTable) -> SplitStatistics:
    files = {sample.label for sample in samples if sample.label}
    of_split = np.fromiter((name in files for name in labels.rows["label"].cat.categories), bool)
    chosen = of_split[labels.rows["label"].cat.codes] if of_split.size else np.zeros(0, bool)
    class_ids, counts = np.unique(labels.rows["class_id"].to_numpy()[chosen], return_counts=True)
    names = dataset.class_names
    instances = {
        names[number] if names else str(number): count
        for number, count in zip(class_ids.tolist(), counts.tolist(), strict=True)
    }
    # A file whose lines are all faulty was labelled by somebody: its own findings say what is wrong.
    labelled = sum(labels.written.get(name, 0) > 0 for name in files)
    return SplitStatistics(images=len(samples), labelled=labelled, instances=instances)

"""The inputs of a merge: archives that were found valid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.dataset.image_stats import ImageStats
from tasks.dataset.layout import Dataset, LabelledImage, class_folder

Splits = Mapping[str, tuple[LabelledImage, ...]]


@dataclass(frozen=True, kw_only=True)
class MergeInput:
    """An archive that was found valid: its name, its layout with the task, and the statistics of its images.

    `entries` maps each image to the checksum and size of the zip's directory; `read` returns an entry's bytes.
    `digest` is the SHA-256 of the archive in hex, if it is known.
    """

    archive: str
    dataset: Dataset
    images: Mapping[str, ImageStats]
    entries: Mapping[str, tuple[int, int]]
    read: Callable[[str], bytes]
    digest: str = ""


def usable_images(dataset: Dataset, class_ids: Sequence[int | None]) -> Splits:
    """Return the samples without the images of dropped classes; elsewhere than in a tree those lose labels alone."""
    if dataset.task != "classify":
        return dataset.splits
    dropped = {name for name, merged in zip(dataset.class_names, class_ids, strict=True) if merged is None}
    return {
        split: tuple(sample for sample in samples if class_folder(sample.image) not in dropped)
        for split, samples in dataset.splits.items()
    }

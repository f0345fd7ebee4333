"""Images whose labels a model has made: they are for train alone, and never take the place of others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from tasks.dataset.labels import class_of
from tasks.dataset.layout import LabelledImage
from tasks.errors import safe_repr
from tasks.merge.conflicts import Conflict, MergeCode, conflict
from tasks.merge.file_names import archive_prefix, image_prefix
from tasks.merge.inputs import MergeInput, Splits
from tasks.merge.label_union import ImageCopy
from tasks.merge.pseudo_labelled_file import PseudoLabelled
from tasks.validation.copied_labels import ImageBoxes, find_copied_labels
from tasks.validation.pseudo_labels import MEASURED, describe_copied_labels

_BOX = 4  # numbers of a box: centre and size


def is_pseudo_labelled(source: MergeInput, sample: LabelledImage) -> bool:
    """Return whether a model has made a label of a sample, or all that there is to say of it."""
    return sample.image in source.dataset.origins.pseudo_labelled


def plan_pseudo_labelled(sources: Sequence[MergeInput], splits: Sequence[Splits]) -> PseudoLabelled:
    """Return those of a plan, whose samples of each source are `splits`."""
    return PseudoLabelled(
        frozenset(
            image_prefix(archive_prefix(number), index)
            for number, (source, own) in enumerate(zip(sources, splits, strict=True))
            for index, sample in enumerate(own.get("train", ()))
            if is_pseudo_labelled(source, sample)
        )
    )


def pseudo_label_conflicts(
    sources: Sequence[MergeInput], samples: Sequence[Splits], gold: MergeInput | None
) -> Iterator[Conflict]:
    """Yield one conflict for each archive in which images to measure on have labels of a model."""
    held = [
        (source, [each for split, own in splits.items() if split != "train" for each in own])
        for source, splits in zip(sources, samples, strict=True)
    ]
    if gold:
        held.append((gold, [each for own in gold.dataset.splits.values() for each in own]))
    for source, measured in held:
        if made := [each.image for each in measured if is_pseudo_labelled(source, each)]:
            name = safe_repr(source.archive)
            found = f"{len(made)} of {name} that a model has labelled, such as {safe_repr(made[0])}"
            fix = "Have a person look at them, or leave them out of the gold archive, and of val and test of others."
            yield conflict(MergeCode.PSEUDO_LABELS, MEASURED, found, fix, fatal=True)


@dataclass(frozen=True)
class ArchiveLabels:
    """An archive of a merge with the merged ids of its classes, by which its labels are compared with others."""

    source: MergeInput
    class_ids: Sequence[int | None]

    def boxes(self, copy: ImageCopy, task: str | None) -> tuple[list[tuple[float, ...]], list[bool]]:
        """Return the labels of an image as boxes, and which of them a model has made.

        A box is the merged class id, and the corners x1, y1, x2, y2 as shares of the image.
        """
        text = self.source.read(copy.label).decode("utf-8-sig") if copy.label else ""
        rows = [fields for line in text.replace("\r", "\n").split("\n") if (fields := line.split())]
        origins = self.source.dataset.origins
        made = [False] * len(rows)
        if copy.image in origins.pseudo_labelled:
            made = origins.find_made_by_model(copy.image, len(rows)).tolist()
        ids = [self.class_ids[class_of(row[0])] for row in rows]
        boxes = [(own, *_corners(row[1:], task)) for own, row in zip(ids, rows, strict=True) if own is not None]
        return boxes, [*compress(made, (own is not None for own in ids))]

    def size(self, image: str) -> tuple[int, int]:
        """Return width and height of an image in pixels, 0 if not known."""
        stats = self.source.images.get(image)
        return (stats.width, stats.height) if stats else (0, 0)


def copied_label_conflicts(
    archives: Mapping[int, ArchiveLabels],
    measured: Iterable[ImageCopy],
    made: Iterable[ImageCopy],
    alike: Iterable[Sequence[ImageCopy]],
    task: str | None,
) -> Iterator[Conflict]:
    """Yield one conflict for all images to measure on that have the labels of a model, and do not say so.

    `made` are those that a model has labelled, and `alike` sets of images that are the same or nearly so; the archive
    of each is its place in `archives`. Those that the origins of their archive name are the person's who has looked at
    them.
    """
    originals = [*made]
    if not originals:
        return
    images = [each for each in measured if each.image not in archives[each.archive].source.dataset.origins.images]
    same_as = {each: number for number, own in enumerate(alike) for each in own}
    boxes, _ = _boxes(archives, images, task)
    original_boxes, by_model = _boxes(archives, originals, task)
    copies = [
        *find_copied_labels(
            boxes,
            np.array([archives[each.archive].size(each.image) for each in images], np.float64),
            original_boxes,
            by_model,
            lambda image, original: same_as.get(images[image], -1) == same_as.get(originals[original], -2),
        )
    ]
    if copies:
        image, original = (
            f"{archives[each.archive].source.archive}/{each.image}"
            for each in (images[copies[0].image], originals[copies[0].original])
        )
        found = describe_copied_labels(len(copies), image, original, copies[0].labels)
        fix = "Leave them out, or have a person look at them: review-images notes who has."
        yield conflict(MergeCode.PSEUDO_LABELS, MEASURED, found, fix, fatal=True)


def _boxes(
    archives: Mapping[int, ArchiveLabels], images: Sequence[ImageCopy], task: str | None
) -> tuple[ImageBoxes, NDArray[np.bool_]]:
    """Return the boxes of images, and which of them a model has made."""
    found = [archives[each.archive].boxes(each, task) for each in images]
    boxes = np.array([box for own, _ in found for box in own], np.float64).reshape(-1, 5)
    image = np.repeat(np.arange(len(images)), [len(own) for own, _ in found])
    return ImageBoxes(image, boxes), np.array([each for _, made in found for each in made], np.bool_)


def _corners(row: Sequence[str], task: str | None) -> tuple[float, ...]:
    """Return the corners of the upright box of a row; of a million rows arrays would be too slow."""
    numbers = [*map(float, row)]
    if task == "pose" or len(numbers) == _BOX:
        x, y, width, height = numbers[:_BOX]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    across, down = numbers[::2], numbers[1::2]
    return min(across), min(down), max(across), max(down)

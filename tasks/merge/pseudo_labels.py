"""Images whose labels a model has made: they are for train alone, and never take the place of others.

File `pseudo-labelled.json` lies beside the `data` of a dataset that has such images.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.dataset.layout import LabelledImage
from tasks.errors import safe_repr
from tasks.merge.conflicts import Conflict, MergeCode, conflict
from tasks.merge.file_names import archive_prefix, image_prefix
from tasks.merge.inputs import MergeInput, Splits
from tasks.merge.label_union import ImageCopy
from tasks.merge.remap import remap_labels
from tasks.validation.pseudo_labels import MEASURED, label_key

_FILE = "pseudo-labelled.json"


@dataclass(frozen=True)
class PseudoLabelled:
    """The images of split train whose labels a model has made, by how their files are named: `00-000003`."""

    prefixes: frozenset[str] = frozenset()

    def __contains__(self, image: Path) -> bool:
        """Return whether a written image of split train, or a link to it, is one of them: `00-000003-x.jpg`."""
        archive, index, *_ = image.name.split("-")
        return f"{archive}-{index}" in self.prefixes


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

    def key(self, label: str | None, task: str | None) -> frozenset[tuple[float, ...]] | None:
        """Return the `label_key` of a label file of the archive."""
        text = self.source.read(label).decode("utf-8-sig") if label else ""
        lines = remap_labels(text, self.class_ids, task).splitlines()
        return label_key([*map(float, line.split(" "))] for line in lines)


def copied_label_conflicts(
    archives: Mapping[int, ArchiveLabels], alike: Iterable[Sequence[ImageCopy]], task: str | None
) -> Iterator[Conflict]:
    """Yield one conflict for all images to measure on that have the labels of a model, and do not say so.

    `alike` are images that are the same or nearly so, some trained on with labels of a model and some measured on, each
    with its place in `archives`. Those that the origins of their archive name are the person's who has looked at them.
    """
    copies = []
    for images in alike:
        made: dict[frozenset[tuple[float, ...]], ImageCopy] = {}
        for each in images:
            origins = archives[each.archive].source.dataset.origins
            if each.image in origins.pseudo_labelled and (key := archives[each.archive].key(each.label, task)):
                made.setdefault(key, each)
        for each in images if made else ():
            if each.image not in archives[each.archive].source.dataset.origins.images:
                key = archives[each.archive].key(each.label, task)
                copies += [(each, made[key])] if key in made else []
    if copies:
        image, twin = (safe_repr(f"{archives[each.archive].source.archive}/{each.image}") for each in min(copies))
        found = f"{len(copies)} with the very labels that a model has made of the same picture, or nearly the same"
        found += f", such as {image}, which has those of {twin}"
        fix = "Leave them out, or have a person look at them: review-images notes who has."
        yield conflict(MergeCode.PSEUDO_LABELS, MEASURED, found, fix, fatal=True)


def write_pseudo_labelled(data: Path, images: PseudoLabelled) -> None:
    """Write the file beside `data` (data.yaml, or the folder of a tree), if there are any."""
    if images.prefixes:
        (_folder(data) / _FILE).write_text(json.dumps(sorted(images.prefixes)), encoding="utf-8")


def read_pseudo_labelled(data: Path) -> PseudoLabelled:
    """Return what was written beside `data`; no image if nothing was."""
    try:
        return PseudoLabelled(frozenset(json.loads((_folder(data) / _FILE).read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return PseudoLabelled()


def _folder(data: Path) -> Path:
    return data if data.is_dir() else data.parent

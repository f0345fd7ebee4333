"""Which classes were looked for in each image of a merged dataset: those of all archives that label it.

What is not labelled in an image and is not of its vocabulary is unknown there, not background. File `vocabularies.json`
lies beside the `data` of a dataset whose images differ in this and that shall be trained accordingly.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.merge.file_names import archive_prefix, image_prefix

if TYPE_CHECKING:  # a training reads the file, and has no need of what made it
    from tasks.merge.class_mapping import ClassPlan
    from tasks.merge.inputs import Splits
    from tasks.merge.label_union import LabelUnion

Vocabulary = frozenset[int]
_FILE = "vocabularies.json"


@dataclass(frozen=True)
class Vocabularies:
    """The class ids of each archive, by its place in the plan, and of each image that several archives label.

    The keys of `united` are `SPLIT/ARCHIVE-NUMBER`, with which the files of a merged dataset are named.
    """

    archives: tuple[Vocabulary, ...]
    united: Mapping[str, Vocabulary]

    def of_archive(self, number: int, splits: "Splits") -> Iterator[Vocabulary]:
        """Yield the vocabulary of each image that an archive brings."""
        for split, samples in splits.items():
            for index in range(len(samples)):
                yield self.united.get(f"{split}/{image_prefix(archive_prefix(number), index)}", self.archives[number])

    def of_image(self, path: Path) -> Vocabulary:
        """Return the vocabulary of a written image, or of a link to it: `images/train/00-000003-x.jpg`."""
        archive, index, *_ = path.name.split("-")
        return self.united.get(f"{path.parent.name}/{archive}-{index}", self.archives[int(archive)])

    def remap(self, ids: Sequence[int | None]) -> "Vocabularies":
        """Return the same for other class ids, as `remap_labels` does."""

        def renumber(vocabulary: Vocabulary) -> Vocabulary:
            return frozenset(new for old in vocabulary if (new := ids[old]) is not None)

        return Vocabularies(
            tuple(map(renumber, self.archives)), {key: renumber(each) for key, each in self.united.items()}
        )


def plan_vocabularies(classes: "ClassPlan", splits: "Sequence[Splits]", united: "Sequence[LabelUnion]") -> Vocabularies:
    """Return the vocabularies of a plan: an archive's is what its data.yaml names and merge.classes does not drop."""
    archives = tuple(frozenset(merged for merged in ids if merged is not None) for ids in classes.class_ids)
    together = {
        (each.written.archive, each.written.image): Vocabulary().union(
            *(archives[copy.archive] for copy in each.copies)
        )
        for each in united
    }
    keyed = {
        f"{split}/{image_prefix(archive_prefix(number), index)}": together[number, sample.image]
        for number, own in enumerate(splits)
        for split, samples in own.items()
        for index, sample in enumerate(samples)
        if (number, sample.image) in together
    }
    return Vocabularies(archives, keyed)


def write_vocabularies(data: Path, vocabularies: Vocabularies) -> None:
    """Write the file beside `data` (data.yaml)."""
    written = {
        "archives": [sorted(each) for each in vocabularies.archives],
        "united": {key: sorted(each) for key, each in vocabularies.united.items()},
    }
    (data.parent / _FILE).write_text(json.dumps(written), encoding="utf-8")


def read_vocabularies(data: Path) -> Vocabularies | None:
    """Return what was written beside `data`; None if every image is complete, or shall be taken for it."""
    try:
        return require_vocabularies(data)
    except FileNotFoundError:
        return None


def require_vocabularies(data: Path) -> Vocabularies:
    """Return what was written beside `data`.

    Raises:
        FileNotFoundError: Nothing was.
    """
    written = json.loads((data.parent / _FILE).read_text(encoding="utf-8"))
    united = {key: frozenset(each) for key, each in written["united"].items()}
    return Vocabularies(tuple(map(frozenset, written["archives"])), united)

"""How two archives differ: images by the checksums in their directories, labels by the classes they name.

Of a stored archive only its directory, data.yaml and the labels are read: images are nearly all of its bytes.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from tasks.catalogue.cursors import CatalogueError
from tasks.catalogue.lineage_tree import printable
from tasks.dataset.archive import Archive, ArchiveError, open_archive_file
from tasks.dataset.labels import MAX_LABEL_BYTES
from tasks.dataset.layout import Dataset, class_folder, read_layout
from tasks.errors import safe_repr
from tasks.parameters import ValidationPolicy
from tasks.storage.object_names import Bucket
from tasks.storage.ranged_reads import RangedObject, head_object
from tasks.storage.steps import object_name, require_object

_SHOWN = 20
_NO_SPLIT = "no split"
_BLOCK_BYTES = 16 << 10  # of a request: what a label costs that lies between two images


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """A class and the number of its labels in each archive; None where data.yaml does not name it."""

    name: str
    before: int | None
    after: int | None


@dataclass(frozen=True, kw_only=True)
class RelabelledImage:
    """An image with the same bytes and other labels: its name in the second archive, and its labels by class."""

    image: str
    before: dict[str, int]
    after: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ArchiveDifference:
    """What changes from archive `before` to archive `after`; images are entries of the zips.

    `replaced` have the same name and other bytes. `renamed` are pairs of the old and the new name, `moved` are name,
    old and new split. An image may be renamed, moved and relabelled at once. What is `unreadable` was not compared.
    """

    before: str
    after: str
    images: tuple[int, int]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str, str], ...]
    relabelled: tuple[RelabelledImage, ...]
    classes: tuple[ClassDifference, ...]
    unreadable: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether training on either is the same: no image, label or class differs."""
        changes = (self.added, self.removed, self.replaced, self.renamed, self.moved, self.relabelled, self.unreadable)
        return not any(changes) and all(each.before == each.after for each in self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as values of JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return it for people: counts, labels by class, and the first images of each kind of change."""
        lines = [f"{self.before} ({self.images[0]} images) -> {self.after} ({self.images[1]} images)"]
        lines += [f"  {each.name}: {_labels(each.before)} -> {_labels(each.after)}" for each in self.classes]
        lines += _section("added", self.added)
        lines += _section("removed", self.removed)
        lines += _section("replaced by other bytes", self.replaced)
        lines += _section("renamed", [f"{before} -> {after}" for before, after in self.renamed])
        lines += _section("in another split", [f"{name}: {before} -> {after}" for name, before, after in self.moved])
        lines += _section("relabelled", map(_relabelled_text, self.relabelled))
        lines += _section("unreadable", self.unreadable)
        return "\n".join(map(printable, [*lines, *(["no difference"] if self.is_empty else [])]))


@dataclass(frozen=True, kw_only=True)
class ComparedImage:
    """An image: its entry, its split, its content, the digest of its labels, and their number by class.

    `content` is the CRC-32 and the size in bytes that the directory of the zip gives.
    """

    name: str
    split: str
    content: tuple[int, int]
    labels: bytes
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ComparedArchive:
    """All that is compared of an archive."""

    images: Sequence[ComparedImage]
    class_names: Sequence[str]
    unreadable: Sequence[str]


def compare_archives(before: str, after: str) -> ArchiveDifference:
    """Return how two archives differ, by their keys in bucket `datasets` or their addresses.

    Raises:
        StorageError: One is not there, or is replaced meanwhile.
        CatalogueError: One is no archive that can be read.
    """
    names = [object_name(name, Bucket.DATASETS) for name in (before, after)]
    for name in names:
        require_object(name, "a dataset archive", "Look for it with `studio datasets`.")
    one, other = (io.BufferedReader(RangedObject(head_object(name, ""), _BLOCK_BYTES)) for name in names)
    return compare_files(one, other, before, after)


def compare_files(before: BinaryIO, after: BinaryIO, before_name: str, after_name: str) -> ArchiveDifference:
    """Return how the zips in two seekable files differ, under these names; the files are closed.

    Raises:
        CatalogueError: One is no archive that can be read.
    """
    with ThreadPoolExecutor(2) as pool:
        old, new = pool.map(_read_archive, (before, after), (before_name, after_name))
    pairs, removed, added = _match(old.images, new.images)
    replaced = {image.name for image in removed} & {image.name for image in added}
    return ArchiveDifference(
        before=before_name,
        after=after_name,
        images=(len(old.images), len(new.images)),
        added=tuple(image.name for image in added if image.name not in replaced),
        removed=tuple(image.name for image in removed if image.name not in replaced),
        replaced=tuple(sorted(replaced)),
        renamed=tuple((one.name, other.name) for one, other in pairs if one.name != other.name),
        moved=tuple((other.name, one.split, other.split) for one, other in pairs if one.split != other.split),
        relabelled=tuple(
            RelabelledImage(image=other.name, before=one.counts, after=other.counts)
            for one, other in pairs
            if one.labels != other.labels
        ),
        classes=tuple(_class_differences(old, new)),
        unreadable=(
            *(f"{before_name}: {name}" for name in old.unreadable),
            *(f"{after_name}: {name}" for name in new.unreadable),
        ),
    )


def _match(
    before: Iterable[ComparedImage], after: Iterable[ComparedImage]
) -> tuple[list[tuple[ComparedImage, ComparedImage]], list[ComparedImage], list[ComparedImage]]:
    """Pair images of one content, first those with the same name; returns the pairs and what is left of each."""
    left: dict[tuple[int, int], dict[str, ComparedImage]] = {}
    for image in before:
        left.setdefault(image.content, {})[image.name] = image
    pairs, unnamed, added = [], [], []
    for image in after:
        same = left.get(image.content, {}).pop(image.name, None)
        pairs += [(same, image)] if same else []
        unnamed += [] if same else [image]
    for image in unnamed:
        if copies := left.get(image.content):
            pairs.append((copies.pop(next(iter(copies))), image))
        else:
            added.append(image)
    return pairs, [image for copies in left.values() for image in copies.values()], added


def _read_archive(file: BinaryIO, name: str) -> ComparedArchive:
    archive, faults = open_archive_file(file, name, ValidationPolicy())
    if archive is None:
        reasons = " ".join(fault.message for fault in faults)
        raise CatalogueError(f"{safe_repr(name, 200)} cannot be compared. {reasons}")
    with archive:
        dataset, _ = read_layout(archive)
        splits = {each.image: split for split, images in dataset.splits.items() for each in images}
        contents = archive.checksums(dataset.labels)
        images, unreadable = [], []
        places = {image: archive.entries[label or image].header_offset for image, label in dataset.labels.items()}
        for image in sorted(places, key=places.__getitem__):  # so that no block is read twice
            try:
                images.append(_read_image(archive, dataset, image, contents[image], splits.get(image, _NO_SPLIT)))
            except ArchiveError as error:
                unreadable.append(f"{image}: {error}")
    images.sort(key=lambda image: image.name)
    return ComparedArchive(images=images, class_names=dataset.class_names, unreadable=unreadable)


def _read_image(archive: Archive, dataset: Dataset, image: str, content: tuple[int, int], split: str) -> ComparedImage:
    if image in archive.refused:
        raise ArchiveError(archive.refused[image])
    label = dataset.labels[image]
    if dataset.task == "classify":
        labels = [(class_folder(image), "")] if split != _NO_SPLIT else []
    else:
        labels = list(_label_rows(archive.read(label, MAX_LABEL_BYTES), dataset.class_names)) if label else []
    written = "\n".join(f"{values} {name}" for name, values in sorted(labels)).encode()
    digest = hashlib.blake2b(written, digest_size=20).digest()
    counts = dict(Counter(name for name, _ in labels))
    return ComparedImage(name=image, split=split, content=content, labels=digest, counts=counts)


def _label_rows(text: bytes, class_names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield class and numbers of each row: a class by its name, because ids may have another order."""
    for line in text.decode(errors="replace").splitlines():
        number, *values = line.split() or [""]
        if number:
            known = number.isascii() and number.isdecimal() and len(number) < 10 and int(number) < len(class_names)
            yield class_names[int(number)] if known else f"class {number[:40]}", " ".join(map(_rounded, values))


def _rounded(value: str) -> str:
    """A number as it counts, however it was written; another text as it is."""
    try:
        return f"{float(value):.6f}"
    except ValueError:
        return value


def _class_differences(before: ComparedArchive, after: ComparedArchive) -> Iterator[ClassDifference]:
    counts = [_label_counts(archive) for archive in (before, after)]
    for name in dict.fromkeys([*counts[0], *counts[1]]):
        yield ClassDifference(name=name, before=counts[0].get(name), after=counts[1].get(name))


def _label_counts(archive: ComparedArchive) -> Mapping[str, int]:
    """The labels by class, 0 for a class that has none."""
    counts = Counter(dict.fromkeys(archive.class_names, 0))
    for image in archive.images:
        counts.update(image.counts)
    return counts


def _labels(count: int | None) -> str:
    return "no such class" if count is None else f"{count} label{'' if count == 1 else 's'}"


def _section(title: str, items: Iterable[str]) -> list[str]:
    texts = list(items)
    more = [f"  and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return [f"{title}: {len(texts)}", *(f"  {text}" for text in texts[:_SHOWN]), *more] if texts else []


def _relabelled_text(image: RelabelledImage) -> str:
    if image.before == image.after:
        return f"{image.image}: other places"
    counts = {name: (image.before.get(name, 0), image.after.get(name, 0)) for name in {**image.before, **image.after}}
    changes = (f"{name} {before} -> {after}" for name, (before, after) in sorted(counts.items()) if before != after)
    return f"{image.image}: {', '.join(changes)}"

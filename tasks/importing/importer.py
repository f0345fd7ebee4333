"""An archive of another tool into a YOLO archive, on local files: the part that runs in a process of its own."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from unicodedata import category

import numpy as np

from tasks.dataset.archive import Archive, ArchiveError, open_archive
from tasks.dataset.data_yaml import MAX_KEYPOINTS
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.findings import Severity
from tasks.dataset.image_stats import ImageStats, check_image
from tasks.dataset.label_origins import LABEL_ORIGINS, origins_broken, read_label_origins
from tasks.dataset.yolo_archive import YoloArchive
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.finding_codes import Code
from tasks.importing.annotations import AnnotatedImage, ImportLog, PlaceLog, Pose, Shape, Tag
from tasks.importing.changes import list_changes
from tasks.importing.conversion import RowWriter, choose_task
from tasks.importing.formats import list_unread, read_annotations, recognize
from tasks.importing.frames import find_frames
from tasks.importing.image_index import ImageIndex, fit, subset_of
from tasks.importing.keypoints import keypoint_keys
from tasks.merge.splitting import link_images, split_images
from tasks.parameters import ImportParams, ValidationPolicy

MAX_CLASS_NAME = 200

_READERS = 4
_SHOWN_LOSSES = 5
_LONG_NAME = f"a class with a name of more than {MAX_CLASS_NAME} characters"
_MISSING = "left out: annotations of an image that is not in the archive"
_UNCLEAR = "left out: annotations of an image whose name several images have"


class UnusableArchiveError(StudioError):
    """An archive that cannot become a YOLO archive."""


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """What an import has read and written.

    `images` are counted by split, `objects` by class. `changes` says how often each thing was left out or changed,
    `places` the first images or entries of each; `notes` what the import decided by itself.
    """

    format: str
    task: str
    class_names: tuple[str, ...]
    images: Mapping[str, int]
    objects: Mapping[str, int]
    changes: Mapping[str, int]
    places: Mapping[str, Sequence[str]]
    notes: Sequence[str]


def import_archive(source: Path, target: Path, params: ImportParams, provenance: Mapping[str, object]) -> ImportSummary:
    """Write the YOLO archive `target`, which must not exist, of the archive `source`.

    Raises:
        UnusableArchiveError: The source is no archive, or nothing in it can be used.
        FormatError: It is in no format that can be read, or in several.
        DocumentError: An annotation file is not of its format.
    """
    log = ImportLog()
    archive, faults = open_archive(source, ValidationPolicy())
    if archive is None:
        raise UnusableArchiveError("; ".join(fault.message for fault in faults))
    for fault in faults:
        if fault.severity is not Severity.INFO:  # such as a wrapping folder: nothing is lost by it
            what = "changed: names" if fault.code == Code.ARCHIVE_NAMES else "left out: an entry"
            log.add(f"{what} of the zip ({fault.code})", fault.path or source.name)
    with archive:
        return _Import(archive, params, log).write(target, provenance)


class _Label(NamedTuple):
    """An object of an image: its class, and its row unless that is the class of the whole image."""

    class_name: str
    row: str


class _Import:
    """The images of an archive, with what is known of each, on their way into another archive."""

    def __init__(self, archive: Archive, params: ImportParams, log: ImportLog) -> None:
        self._archive = archive
        self._params = params
        self._log = log
        self._format, entries = recognize(archive, params.format, log)
        for name in list_unread(self._format, archive, entries):
            if name != LABEL_ORIGINS:
                log.add("left out: a file that is neither an image nor annotations of this format", name)
        self._origins, faults = read_label_origins(archive)
        if lost := self._origins.images - archive.entries.keys():
            expected, found = "the images of its rows", f"no {safe_repr(min(lost))} ({len(lost):,} of them)"
            faults.append(origins_broken(expected, found))
        if faults:
            raise UnusableArchiveError(faults[0].message)
        read = read_annotations(self._format, archive, entries, params, log)
        annotated = self._locate(read)
        self._stats = self._check(annotated)
        images = {entry: image for entry, image in annotated.items() if entry in self._stats}
        self._given = {entry: image.subset or subset_of(parent_folder(entry)) for entry, image in images.items()}
        self._task = params.task or choose_task(images.values())
        self._keypoints = _keypoint_count(images.values(), log.keypoint_names) if self._task == "pose" else 0
        if self._task == "pose" and not self._keypoints:
            raise UnusableArchiveError(
                expected_found_fix("keypoints, for task pose", "none", "Set importing.task to another task.")
            )
        shown = [shape.class_name for image in images.values() for shape in image.shapes]
        declared = [name for name in log.class_names if self._can_be_named(name, "left out: ", self._format)]
        self._class_names = tuple(dict.fromkeys([*declared, *shown]))
        self._labels = self._label(images)
        if not self._labels:
            raise UnusableArchiveError(
                f"Expected images with annotations, found none that can be used of {len(annotated)}: {_losses(log)}."
            )
        self._splits = self._split()

    def _locate(self, read: Iterator[AnnotatedImage]) -> dict[str, AnnotatedImage]:
        """Return the images by their entries."""
        index = ImageIndex(self._archive.entries)
        claims: defaultdict[str, list[AnnotatedImage]] = defaultdict(list)
        doubtful: set[str] = set()
        for image in map(self._bound, read):
            named = index.find(image.name, image.folder, image.subset)
            if len(named) == 1:
                claims[named[0]].append(image)
            else:
                self._leave_out(_UNCLEAR if named else _MISSING, image)
                doubtful |= {PurePosixPath(name).stem for name in named[:1]}
        found = {entry: chosen for entry, own in claims.items() if (chosen := self._choose(entry, own))}
        for entry in index.images:
            labelled = entry in claims or PurePosixPath(entry).stem in doubtful
            if entry not in found and self._params.background and not labelled:
                found[entry] = AnnotatedImage(name=entry)
            elif entry not in found:
                self._log.add("left out: an image that no annotation names (see importing.background)", entry)
        return dict(sorted(found.items()))

    def _bound(self, image: AnnotatedImage) -> AnnotatedImage:
        """Return an image without a size that none has, and without objects whose class no archive can name."""
        if image.size and min(image.size) < 1:
            self._log.add("changed: an image whose width or height is not right has those of its file", image.name)
            image = replace(image, size=None)
        what = "left out: an object of "
        shapes = [shape for shape in image.shapes if self._can_be_named(shape.class_name, what, image.name)]
        return replace(image, shapes=shapes, lost=image.lost + len(image.shapes) - len(shapes))

    def _can_be_named(self, name: str, what: str, place: str) -> bool:
        """Return whether a class can have the name; if not, tell `what` is done about it."""
        if fault := _name_fault(name):
            self._log.add(f"{what}{fault}", place)
        return not fault

    def _choose(self, entry: str, claims: Sequence[AnnotatedImage]) -> AnnotatedImage | None:
        """Return what is said of an entry by the annotations that mean it; None if they may mean other images.

        The archive may lack an image of the same name in another folder, whose annotations then point here as well.
        """
        fits = [fit(entry, image.name, image.folder, image.subset) for image in claims]
        highest = max(fits)
        best = [image for image, own in zip(claims, fits, strict=True) if own == highest]
        others = [image for image, own in zip(claims, fits, strict=True) if own != highest]
        if len({(image.folder, image.name) for image in best}) > 1:
            best, others = [], [*best, *others]
        for image in others:
            self._leave_out(_MISSING, image)
        labelled = [image for image in best if image.shapes]
        if len(labelled) > 1:
            return self._join(entry, labelled)
        return max(best, key=lambda image: (bool(image.shapes), image.lost > 0), default=None)

    def _join(self, entry: str, listed: Sequence[AnnotatedImage]) -> AnnotatedImage:
        """Return an image with the labels of all that list it, such as files for cars and for people.

        COCO lists an object in a file of each kind of labels: a class has the kinds of shapes of the first alone.
        """
        first = listed[0]
        if len({(image.size, image.size_is_stored, image.relative) for image in listed}) > 1:
            self._log.add("left out: an image that is listed several times, with different sizes", entry)
            return replace(first, shapes=(), lost=sum(len(image.shapes) for image in listed))
        shapes: list[Shape] = []
        kinds: defaultdict[str, set[type[Shape]]] = defaultdict(set)
        seen: set[str] = set()
        for image in listed:
            own = [(shape, _content(shape)) for shape in image.shapes]
            new = [
                shape
                for shape, content in own
                if content not in seen and type(shape) in (kinds.get(shape.class_name) or {type(shape)})
            ]
            if repeated := len(own) - len(new):
                self._log.add("left out: annotations of an image that has some already", entry, repeated)
            if shapes and new:
                self._log.add("changed: an object is put to those that another list has of its image", entry, len(new))
            shapes += new
            seen |= {content for _, content in own}
            for shape in new:
                kinds[shape.class_name].add(type(shape))
        return replace(first, shapes=shapes, lost=sum(image.lost for image in listed))

    def _leave_out(self, kind: str, image: AnnotatedImage) -> None:
        """Count the annotations of an image; one without any counts as one."""
        self._log.add(kind, image.name, max(1, len(image.shapes) + image.lost))

    def _check(self, entries: Iterable[str]) -> dict[str, ImageStats]:
        """Return the statistics of the images that can be used."""

        def check(entry: str) -> tuple[str, ImageStats | None, str]:
            try:
                stats, faults = check_image(self._archive.read(entry), entry)
            except ArchiveError as error:
                return entry, None, error.finding.code
            return entry, stats, "" if stats else faults[0].code

        usable = {}
        with ThreadPoolExecutor(_READERS) as pool:
            for entry, stats, code in pool.map(check, entries):
                if stats:
                    usable[entry] = stats
                else:
                    self._log.add(f"left out: an image that cannot be used ({code})", entry)
        return usable

    def _label(self, images: Mapping[str, AnnotatedImage]) -> dict[str, list[_Label]]:
        """Return the labels of the images that can be used; background has none."""
        if self._task == "classify":
            named = {entry: _only_class(image, self._log.at(entry)) for entry, image in images.items()}
            return {entry: [_Label(name, "")] for entry, name in named.items() if name is not None}
        frames = find_frames(images, self._stats, self._log)
        class_ids = {name: at for at, name in enumerate(self._class_names)}
        rows = RowWriter(task=self._task, class_ids=class_ids, keypoints=self._keypoints)
        found = {}
        for entry, image in images.items():
            frame = frames[entry]
            log = self._log.at(entry)
            own = [
                _Label(each.class_name, row) for each in image.shapes if frame and (row := rows.write(each, frame, log))
            ]
            if own or not image.shows_objects:
                found[entry] = own
            else:
                log.add("left out: an image of whose objects none became a label")
        return found

    def _split(self) -> dict[str, str]:
        """Return the split of each image: as the source has it, or else a new one."""
        params = self._params
        kept = self._kept_splits() if params.split == "keep" else {}
        if kept:
            self._log.note(f"{', '.join(sorted(set(kept.values())))} of the source stay ({len(kept):,} images)")
        made = self._origins.pseudo_labelled & self._labels.keys()
        if made:
            self._log.note(f"images that a model has labelled are in train ({len(made):,} images)")
        for entry in sorted(made & {entry for entry, split in kept.items() if split != "train"}):
            self._log.add("changed: an image that a model has labelled is in train, not measured on", entry)
        kept |= dict.fromkeys(made, "train")
        if len(kept) == len(self._labels):
            return kept
        stats = {entry: self._stats[entry] for entry in self._labels}
        links = link_images(stats, self._archive.checksums(stats), self._archive.read, params.groups)
        classes = {
            entry: Counter[str | None](label.class_name for label in labels) for entry, labels in self._labels.items()
        }
        shares = {"train": 1 - params.val - params.test, "val": params.val, "test": params.test}
        wanted = {split: share for split, share in shares.items() if share > 0}
        splits = split_images(classes, links, wanted, params.seed, kept)
        placed = Counter(split for entry, split in splits.items() if entry not in kept)
        written = ", ".join(f"{split} {placed[split]:,}" for split in wanted)
        self._log.note(f"splits are new of {placed.total():,} images: {written}, seed {params.seed}")
        return splits

    def _kept_splits(self) -> dict[str, str]:
        """Return the splits of the source that stay, by image.

        They are all if it has train and val, else its test, on which nobody may train; a source of one split has none.
        """
        given = {entry: self._given[entry] for entry in self._labels}
        splits = set(given.values())
        stay = {"train", "val", "test"} if {"train", "val"} <= splits else {"test"} if len(splits) > 1 else set()
        return {entry: split for entry, split in given.items() if split in stay}

    def write(self, target: Path, provenance: Mapping[str, object]) -> ImportSummary:
        """Write the images with their labels, and return what was written."""
        names: dict[str, str] = {}
        with YoloArchive(target, self._task) as written:
            for entry, labels in self._labels.items():
                data, split = self._archive.read(entry), self._splits[entry]
                if self._task == "classify":
                    name = written.add_classified(entry, data, split, labels[0].class_name)
                else:
                    name = written.add(entry, data, split, [label.row for label in labels])
                names[entry] = name
            if origins := self._origins.of_images(names):
                written.tell_label_origins(origins)
            for class_name, folder in written.folders.items():
                if folder != class_name:
                    self._log.add(
                        "changed: the name of a class, which its folder cannot have", f"{class_name}: {folder}"
                    )
            images = Counter(self._splits.values())
            keys = keypoint_keys(self._keypoints, self._log) if self._task == "pose" else {}
            written.describe(self._class_names, [split for split in ("train", "val", "test") if images[split]], keys)
            summary = ImportSummary(
                format=self._format,
                task=self._task,
                class_names=self._class_names,
                images=dict(images),
                objects=dict(Counter(label.class_name for labels in self._labels.values() for label in labels)),
                changes=dict(self._log.counts),
                places=self._log.places,
                notes=self._log.notes,
            )
            written.tell_provenance({**provenance, **asdict(summary)})
        return summary


def _content(shape: Shape) -> str:
    """Return a text that equal shapes share."""
    return json.dumps([type(shape).__name__, vars(shape)], default=np.ndarray.tolist)


def _keypoint_count(images: Iterable[AnnotatedImage], declared: Sequence[str]) -> int:
    """Return the number of keypoints that most poses have; without any pose, that of those that the source declares.

    Raises:
        UnusableArchiveError: It is more than an archive may have.
    """
    counts = Counter(len(shape.keypoints) for image in images for shape in image.shapes if isinstance(shape, Pose))
    count = counts.most_common(1)[0][0] if counts else len(declared)
    if count > MAX_KEYPOINTS:
        expected = f"at most {MAX_KEYPOINTS:,} keypoints for an object"
        raise UnusableArchiveError(
            expected_found_fix(expected, f"{count:,}", "Set importing.task to detect, which keeps the boxes.")
        )
    return count


def _only_class(image: AnnotatedImage, log: PlaceLog) -> str | None:
    tags = [shape.class_name for shape in image.shapes if isinstance(shape, Tag)]
    if len(tags) > 1:
        log.add("left out: another class of an image, after the first", len(tags) - 1)
    if len(tags) < len(image.shapes):
        log.add("left out: an object beside classes of whole images", len(image.shapes) - len(tags))
    if not tags:
        log.add("left out: an image without a class")
    return tags[0] if tags else None


def _name_fault(name: str) -> str:
    """What is wrong with the name of a class; an empty text if nothing is."""
    if len(name) > MAX_CLASS_NAME:
        return _LONG_NAME
    if not name.strip():
        return "a class without a name"
    wrong = any(category(sign) in {"Cc", "Cs"} for sign in name)  # control characters, and halves of characters
    return "a class whose name is no valid text" if wrong else ""


def _losses(log: ImportLog) -> str:
    """Return what was left out most, for an error: an attribute that is not kept is no reason for it."""
    lost = {kind: count for kind, count in log.counts.items() if kind.startswith("left out")}
    return "; ".join(list_changes(lost, _SHOWN_LOSSES)) or "there is nothing in it"

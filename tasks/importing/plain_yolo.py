"""YOLO labels as they come: a text file an image; data.yaml may tell the rest, or `classes.txt` name the classes."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np

from tasks.dataset.archive import Archive
from tasks.dataset.data_yaml import find_data_yaml_candidates
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.findings import Severity
from tasks.dataset.labels import VISIBILITIES, LabelRow, LabelSpec, parse_labels
from tasks.dataset.layout import Dataset, read_layout
from tasks.errors import expected_found_fix, safe_repr
from tasks.finding_codes import Code
from tasks.importing.annotations import AnnotatedImage, Box, ImportLog, Outline, Pose, RotatedBox, Shape
from tasks.importing.documents import DocumentError, read_bytes, read_text, to_number
from tasks.importing.image_index import ImageIndex, assign_subset, subset_of_image

NAME_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels", "labels.txt")
_NEEDLESS = {Code.SPLIT_MISSING, Code.SPLIT_EMPTY}  # what an import has no need of


def image_path(label: str) -> str:
    """Return the path of the image of a label file, without its ending: beside it, or in the folder that mirrors it."""
    stem = label.rpartition(".")[0]
    before, labels, after = f"/{stem}".rpartition("/labels/")
    return f"{before}/images/{after}".removeprefix("/") if labels else stem


def read(archive: Archive, entries: Sequence[str], log: ImportLog, task: str | None) -> Iterator[AnnotatedImage]:
    """Yield the image of each label file; lines that the dataset check refuses are left out.

    Unless data.yaml tells the task, rows that read as poses are poses, if `task` is not one of outlines.

    Raises:
        DocumentError: Nothing says which of two lists of names is meant, or whether rows are poses or outlines, or
            data.yaml names no classes.
    """
    described = _read_description(archive, log)
    lists = _NameLists(archive, log, described)
    images = ImageIndex(archive.entries)
    subsets: dict[str, str] = {}
    for split, samples in described.splits.items():
        listed = _find_listed(described.unlocated.get(split, ()), split, images, log)
        assign_subset(subsets, [*(sample.image for sample in samples), *listed], split, log)
    rules = LabelSpec(task=described.task if described.task in {"pose", "obb"} else None, keypoints=described.keypoints)
    log.flip_idx = described.flip_idx or ()
    is_open = described.task is None and task not in {"segment", "obb"}
    if is_open and (keypoints := _keypoint_count(archive, entries, sure=task == "pose")):
        rules = LabelSpec(task="pose", keypoints=(keypoints, 3))
        log.note(f"rows are read as a box and {keypoints} keypoints with their visibility")
    columns: set[int] = set()
    for name in entries:
        try:
            data = read_bytes(archive, name)
        except DocumentError as error:
            log.add(f"left out: a file that cannot be read: {error}", name)
            continue
        labels, faults = parse_labels(data, name, rules)
        for fault in faults:
            log.add(f"left out: a line that is no label ({fault.code})", name)
        columns |= {len(row.coordinates) for row in labels.rows}
        image, folder = image_path(name), parent_folder(name)
        names = lists.nearest(folder)
        subset = next((subsets[found] for found in images.find(image, folder) if found in subsets), "")
        yield AnnotatedImage(
            name=image,
            folder=folder,
            relative=True,
            subset=subset or subset_of_image(name),
            shapes=[_shape(row, rules, names, name, log) for row in labels.rows],
            lost=labels.written - len(labels.rows),
        )
    if is_open and columns == {8}:
        log.note("rows are read as outlines of four corners; set importing.task to obb if they are rotated boxes")


def list_descriptions(archive: Archive) -> list[str]:
    """Return data.yaml, and the lists of images that it names."""
    return [*find_data_yaml_candidates(archive), *read_layout(archive, by_ends=True)[0].lists]


def _read_description(archive: Archive, log: ImportLog) -> Dataset:
    """Return what data.yaml tells, if there is one: names of classes, splits, and what the rows are.

    Raises:
        DocumentError: There are several, or it names no classes.
    """
    files = find_data_yaml_candidates(archive)
    if not files:
        return Dataset()
    dataset, faults = read_layout(archive, by_ends=True)
    several = any(fault.code == Code.YAML_SEVERAL for fault in faults)
    if several or not dataset.class_names:
        raise DocumentError("; ".join(fault.message for fault in faults if fault.code not in _NEEDLESS))
    for fault in faults:
        if fault.code == Code.YAML_PATH and fault.severity is Severity.INFO:
            log.note(fault.message)
        searched = fault.path in dataset.lists and fault.line  # names that `_find_listed` looks for elsewhere
        if fault.severity is not Severity.INFO and fault.code not in _NEEDLESS and not searched:
            log.add(f"not kept: what data.yaml says, of which the check says {fault.code}", fault.path or files[0])
    return dataset


def _find_listed(names: Iterable[str], split: str, images: ImageIndex, log: ImportLog) -> Iterator[str]:
    """Yield the images that a list means by paths of another machine or of darknet."""
    for name in dict.fromkeys(names):
        found = images.find(name)
        if len(found) == 1:
            yield found[0]
        else:
            bearers = "several images have" if found else "no image has"
            log.add(f"not kept: a name in the list of {split} that {bearers}", name)


def _keypoint_count(archive: Archive, entries: Sequence[str], *, sure: bool) -> int:
    """Return how many keypoints the rows have behind a box, 0 if a row is no pose or has another number of them.

    Raises:
        DocumentError: It is not `sure` that they are poses, and they could be outlines as well.
    """
    flags: set[float | None] = set()
    columns: set[int] = set()
    for name in entries:
        with contextlib.suppress(DocumentError):
            for line in filter(str.strip, read_text(archive, name).splitlines()):
                numbers = line.split()[1:]
                flags |= {to_number(word) for word in numbers[6::3]}
                columns.add(len(numbers))
                if not flags <= {*VISIBILITIES} or len(columns) > 1:
                    return 0
    count, rest = divmod(max(columns, default=0) - 4, 3)
    if count < 1 or rest:
        return 0
    if count % 2 == 0 and max(VISIBILITIES) not in flags and not sure:
        found = f"rows that may be {count} keypoints with a box as well as {2 + 3 * count // 2} corners"
        raise DocumentError(expected_found_fix("rows of one kind", found, "Set importing.task to pose or to segment."))
    return count


class _NameLists:
    """The lists of class names of an archive, by their folders: the number of a class is its line, from 0."""

    def __init__(self, archive: Archive, log: ImportLog, described: Dataset) -> None:
        self._lists: dict[str, tuple[str, list[str]]] = {}
        if described.class_names:
            log.note("names of classes are those of data.yaml")
            log.declare(described.class_names)
            self._lists[""] = "data.yaml", list(described.class_names)
        for name in archive.entries:
            folder, _, file = name.rpartition("/")
            if file in NAME_FILES:
                names = [line.strip() for line in read_text(archive, name).rstrip().splitlines()]
                if described.class_names:
                    if names != [*described.class_names]:
                        log.add("left out: a list of class names that differs from data.yaml", name)
                    continue
                other, known = self._lists.setdefault(folder, (name, names))
                _require_same(other, known, name, names)
                log.note(f"names of classes are those of {name}")
                log.declare(filter(None, names))
        if not self._lists:
            log.note(f"classes have their numbers as names: there is no data.yaml and no {NAME_FILES[0]}")

    def nearest(self, folder: str) -> list[str]:
        """Return the names for labels in a folder: of the list there, or above, or else of the only one."""
        while folder not in self._lists and folder:
            folder = parent_folder(folder)
        return self._lists[folder][1] if folder in self._lists else self._only

    @cached_property
    def _only(self) -> list[str]:
        (first, names), *others = self._lists.values() or [("", [])]
        for other, more in others:
            _require_same(first, names, other, more)
        return names


def _require_same(one: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    if names != others:
        found = f"{safe_repr(one)} and {safe_repr(other)}, which differ"
        fix = "Put each list into the folder of its labels or above it, and take out what is none."
        raise DocumentError(expected_found_fix("one list of class names for a label file", found, fix))


def _shape(row: LabelRow, rules: LabelSpec, names: Sequence[str], place: str, log: ImportLog) -> Shape:
    known = row.class_id < len(names) and bool(names[row.class_id])
    if names and not known:
        log.add("changed: a class that the list of names lacks has its number as name", place)
    class_name = names[row.class_id] if known else f"class {row.class_id}"
    if rules.task == "obb":
        return RotatedBox(class_name=class_name, corners=row.coordinates.reshape(-1, 2))
    if len(row.coordinates) > 4 and not rules.keypoints:
        return Outline(class_name=class_name, rings=(row.coordinates.reshape(-1, 2),))
    x, y, width, height = row.coordinates[:4].tolist()
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if rules.keypoints:
        points = row.coordinates[4:].reshape(rules.keypoints)
        if points.shape[1] == 2:  # without a third number one at the corner is absent, as Ultralytics reads it
            points = np.column_stack([points, 2 * points.any(axis=1)])
        return Pose(class_name=class_name, corners=corners, keypoints=points)
    return Box(class_name=class_name, corners=corners)

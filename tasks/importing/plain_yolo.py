"""YOLO labels without data.yaml: a text file an image; `classes.txt` or its like may name the classes."""

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.labels import LabelRow, LabelSpec, parse_labels
from tasks.importing.annotations import AnnotatedImage, Box, ImportLog, Outline, Shape
from tasks.importing.documents import DocumentError, read_bytes, read_text
from tasks.importing.image_index import subset_of

NAME_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels", "labels.txt")


def image_path(label: str) -> str:
    """Return the path of the image of a label file, without its ending: beside it, or in the folder that mirrors it."""
    stem = label.rpartition(".")[0]
    before, labels, after = f"/{stem}".rpartition("/labels/")
    return f"{before}/images/{after}".removeprefix("/") if labels else stem


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the image of each label file; lines that the dataset check refuses are left out."""
    names = _class_names(archive, log)
    for name in entries:
        try:
            data = read_bytes(archive, name)
        except DocumentError as error:
            log.add(f"left out: a file that cannot be read: {error}", name)
            continue
        labels, faults = parse_labels(data, name, LabelSpec())
        for fault in faults:
            log.add(f"left out: a line that is no label ({fault.code})", name)
        yield AnnotatedImage(
            name=image_path(name),
            folder=parent_folder(name),
            relative=True,
            subset=subset_of(name),
            shapes=[_shape(row, names, name, log) for row in labels.rows],
        )


def _class_names(archive: Archive, log: ImportLog) -> list[str]:
    for name in archive.entries:
        if name.rpartition("/")[2] in NAME_FILES:
            log.note(f"names of classes are those of {name}")
            lines = read_text(archive, name).splitlines()
            names = [line.strip() for line in lines if line.strip()]
            log.declare(names)
            return names
    log.note(f"classes have their numbers as names: there is no {NAME_FILES[0]}")
    return []


def _shape(row: LabelRow, names: Sequence[str], place: str, log: ImportLog) -> Shape:
    known = row.class_id < len(names)
    if names and not known:
        log.add("changed: a class that the list of names lacks has its number as name", place)
    class_name = names[row.class_id] if known else f"class {row.class_id}"
    if len(row.coordinates) > 4:
        return Outline(class_name=class_name, rings=(np.asarray(row.coordinates).reshape(-1, 2),))
    x, y, width, height = row.coordinates.tolist()
    return Box(class_name=class_name, corners=(x - width / 2, y - height / 2, x + width / 2, y + height / 2))

"""Pascal VOC: an XML file an image, with boxes; rotated ones as roLabelImg writes them, outlines as Roboflow does.

The files of the VOC challenges and of supervision count pixels from 1 and name the last pixel of a box; all other tools
write from 0.
"""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.importing.annotations import (
    AnnotatedImage,
    Box,
    ImportLog,
    Outline,
    PlaceLog,
    RotatedBox,
    Shape,
    rotated_box,
)
from tasks.importing.documents import number, read_text, read_xml, text, to_number
from tasks.importing.image_index import assign_subset, subset_of_image

_CHALLENGE = re.compile(r"VOC\s?20\d\d", re.IGNORECASE)
_SUPERVISION = "VOC", "roboflow.ai"  # what it writes as folder and database
IMAGE_SETS = "ImageSets/Main/"
_FLAGS = ("difficult", "truncated", "occluded")
_READ = frozenset({"name", "type", "bndbox", "robndbox", "polygon", "pose", "part", *_FLAGS})


def read(
    archive: Archive, entries: Sequence[str], log: ImportLog, first_pixel: Literal["auto", "0", "1"]
) -> Iterator[AnnotatedImage]:
    """Yield the image of each XML file; `first_pixel` is how its tool counts pixels.

    Raises:
        DocumentError: A file is no XML.
    """
    first = _guess_first_pixel(archive, entries) if first_pixel == "auto" else int(first_pixel)
    log.note(f"pixels of boxes are counted from {first}")
    subsets = _image_sets(archive, log)
    for name in entries:
        root = read_xml(archive, name)
        stem = name.rpartition("/")[2].rpartition(".")[0]
        objects = root.findall("object")
        shapes = [shape for each in objects if (shape := _shape(each, first, log.at(name)))]
        size = number(root, "size/width"), number(root, "size/height")
        yield AnnotatedImage(
            name=text(root, "filename") or stem,
            folder=parent_folder(name),
            size=(int(size[0]), int(size[1])) if size[0] and size[1] else None,
            subset=subsets.get(stem) or subset_of_image(name),
            shapes=shapes,
            lost=len(objects) - len(shapes),
        )


def _guess_first_pixel(archive: Archive, entries: Sequence[str]) -> int:
    """A box at 0 tells that they count from 0; else the name of a challenge or tool tells that they count from 1."""
    from_1 = False
    for name in entries:
        root = read_xml(archive, name)
        corners = chain.from_iterable(root.iterfind(f".//bndbox/{side}") for side in ("xmin", "ymin"))
        if any((value := to_number(corner.text)) is not None and value < 1 for corner in corners):
            return 0
        origin = text(root, "folder"), text(root, "source/database")
        from_1 |= origin == _SUPERVISION or any(map(_CHALLENGE.search, origin))
    return int(from_1)


def _image_sets(archive: Archive, log: ImportLog) -> dict[str, str]:
    """Return the subset of each stem that `ImageSets/Main/train.txt` and its like list."""
    subsets: dict[str, str] = {}
    for subset in ("train", "val", "test"):
        lists = [name for name in archive.entries if name.endswith(f"{IMAGE_SETS}{subset}.txt")]
        lines = chain.from_iterable(read_text(archive, name).splitlines() for name in lists)
        assign_subset(subsets, (line.split()[0] for line in lines if line.strip()), subset, log)
    return subsets


def _shape(item: Element, first_pixel: int, log: PlaceLog) -> Shape | None:
    class_name = text(item, "name")
    for flag in _FLAGS:
        if number(item, flag):
            log.add(f"not kept: flag {flag}")
    if text(item, "pose") not in {"", "Unspecified"}:
        log.add("not kept: attribute pose")
    for attribute in item.iterfind("attributes/attribute"):
        log.add(f"not kept: attribute {text(attribute, 'name')}")
    for each in item:
        said = len(each) or (each.text or "").strip() not in {"", "0"}
        if said and each.tag not in _READ and each.find("attribute") is None:
            log.add(f"not kept: {each.tag} of an object")
    if parts := len(item.findall("part")):
        log.add("left out: a part of an object (head, hand, foot)", parts)
    shape = class_name and (
        _rotated(item, class_name) or _outline(item, class_name, first_pixel) or _box(item, class_name, first_pixel)
    )
    if not shape:
        log.add("left out: an object without a class or a whole box")
    return shape or None


def _rotated(item: Element, class_name: str) -> RotatedBox | None:
    values = _numbers(item, "robndbox", ("cx", "cy", "w", "h", "angle"))
    if not values:
        return None
    x, y, width, height, angle = values
    return rotated_box(class_name, (x, y), width, height, math.degrees(angle))


def _outline(item: Element, class_name: str, first_pixel: int) -> Outline | None:
    corners = len(item.findall("polygon/*")) // 2
    values = _numbers(item, "polygon", [f"{axis}{corner}" for corner in range(1, corners + 1) for axis in "xy"])
    if not values or corners < 3:
        return None
    return Outline(class_name=class_name, rings=(np.array(values).reshape(-1, 2) - first_pixel,))


def _box(item: Element, class_name: str, first_pixel: int) -> Box | None:
    values = _numbers(item, "bndbox", ("xmin", "ymin", "xmax", "ymax"))
    if not values:
        return None
    left, right = _edges(values[0], values[2], first_pixel)
    top, bottom = _edges(values[1], values[3], first_pixel)
    return Box(class_name=class_name, corners=(left, top, right, bottom))


def _edges(one: float, other: float, first_pixel: int) -> tuple[float, float]:
    """Return the edges of a row of pixels; swapped ones stay so, as the import tells them."""
    return (one - first_pixel, other) if one <= other else (one, other - first_pixel)


def _numbers(item: Element, place: str, names: Sequence[str]) -> list[float] | None:
    values = [number(item, f"{place}/{name}") for name in names]
    numbers = [value for value in values if value is not None]
    return numbers if len(numbers) == len(values) else None

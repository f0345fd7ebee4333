"""Datumaro's own format: `annotations/SUBSET.json` with categories and items."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import Field

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
    Tag,
    rotated_box,
)
from tasks.importing.documents import Coordinate, DocumentError, Record, read_json, records
from tasks.importing.image_index import SUBSETS
from tasks.importing.run_lengths import RunLengthError, RunLengths

Size = tuple[int, int]


class _Label(Record):
    name: str


class _Image(Record):
    path: str = ""
    size: Size | None = None


class _Annotation(Record):
    type: str
    label_id: int | None = Field(None, ge=0)
    group: int | None = None
    z_order: int | None = None
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    points: tuple[Coordinate, ...] = ()
    cx: Coordinate | None = None
    cy: Coordinate | None = None
    width: Coordinate | None = Field(None, alias="w")
    height: Coordinate | None = Field(None, alias="h")
    angle: Coordinate | None = Field(None, alias="r")
    rle: RunLengths | None = None
    attributes: Mapping[str, Any] = Field({})


class _Item(Record):
    id: str
    image: _Image = _Image()
    annotations: tuple[Any, ...] = ()


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the items of all files.

    Raises:
        DocumentError: A file is not of Datumaro.
    """
    for name in entries:
        document = read_json(archive, name)
        try:
            labels = document["categories"]["label"]["labels"]
            items = document["items"]
        except (TypeError, KeyError) as error:
            raise DocumentError(f"Expected categories and items of Datumaro in {name!r}, found none.") from error
        place = log.at(name)
        classes = [label.name for label in records(labels, _Label, place)]
        log.declare(classes)
        for item in records(items, _Item, place):
            size = item.image.size[::-1] if item.image.size else None
            found = list(_shapes(item, classes, log.at(item.id)))
            yield AnnotatedImage(
                name=item.image.path or item.id,
                folder=parent_folder(name),
                size=size,
                subset=SUBSETS.get(name.rpartition("/")[2].removesuffix(".json").lower(), ""),
                shapes=_join(found, log.at(item.id)),
                lost=len(item.annotations) - len(found),
            )


def _shapes(item: _Item, classes: Sequence[str], log: PlaceLog) -> Iterator[tuple[int | None, Shape]]:
    """Yield each shape behind the number of its group, which is 0 or None if it has none."""
    for each in records(list(item.annotations), _Annotation, log):
        for attribute, value in each.attributes.items():
            if value not in (False, 0, "", None):
                log.add(f"not kept: attribute {attribute}")
        if each.z_order:
            log.add("not kept: layer of an object (z_order)")
        if each.attributes.get("is_crowd"):
            log.add("left out: a crowd region (is_crowd), which is no single object")
        elif each.type not in _MAKERS:
            log.leave_out(each.type, _MAKERS)
        elif each.label_id is None or each.label_id >= len(classes):
            log.add(f"left out: a {each.type} without a class")
        else:
            try:
                shape = _MAKERS[each.type](each, classes[each.label_id], item.image.size)
            except RunLengthError as error:
                log.add(f"left out: {error.what}")
                continue
            if shape:
                yield each.group, shape
            else:
                log.leave_out(each.type, _MAKERS)


def _join(found: Sequence[tuple[int | None, Shape]], log: PlaceLog) -> list[Shape]:
    """Return the shapes, with the outlines of one group and class as one: they are the parts of an object."""
    objects = [(group, shape) for group, shape in found if not (group and isinstance(shape, Outline))]
    outlines: defaultdict[tuple[int, str], list[Outline]] = defaultdict(list)
    for group, shape in found:
        if group and isinstance(shape, Outline):
            outlines[group, shape.class_name].append(shape)
    for (group, _), parts in outlines.items():
        if len(parts) > 1:
            log.add("changed: an outline became a part of another one of its group", len(parts) - 1)
        objects.append((group, replace(parts[0], rings=tuple(ring for part in parts for ring in part.rings))))
    sizes = Counter(group for group, _ in objects if group)
    if grouped := sum(size for size in sizes.values() if size > 1):
        log.add("not kept: group of an object (group)", grouped)
    return [shape for _, shape in objects]


def _tag(_: _Annotation, class_name: str, __: Size | None) -> Tag:
    return Tag(class_name=class_name)


def _box(item: _Annotation, class_name: str, _: Size | None) -> Box | None:
    if not item.bbox:
        return None
    x, y, width, height = item.bbox
    return Box(class_name=class_name, corners=(x, y, x + width, y + height))


def _outline(item: _Annotation, class_name: str, _: Size | None) -> Outline | None:
    if len(item.points) < 6 or len(item.points) % 2:
        return None
    return Outline(class_name=class_name, rings=(np.array(item.points).reshape(-1, 2),))


def _mask(item: _Annotation, class_name: str, size: Size | None) -> Outline | None:
    return Outline(class_name=class_name, rings=item.rle.rings(size)) if item.rle else None


def _rotated(item: _Annotation, class_name: str, _: Size | None) -> RotatedBox | None:
    numbers = [value for value in (item.cx, item.cy, item.width, item.height, item.angle) if value is not None]
    if len(numbers) < 5:
        return None
    x, y, width, height, angle = numbers
    return rotated_box(class_name, (x, y), width, height, angle)


_MAKERS: Mapping[str, Callable[[_Annotation, str, Size | None], Shape | None]] = MappingProxyType(
    {"label": _tag, "bbox": _box, "polygon": _outline, "mask": _mask, "rotated_bbox": _rotated}
)

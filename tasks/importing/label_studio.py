"""Label Studio's JSON, whole or its short form (JSON-MIN): https://labelstud.io/guide/export."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from pydantic import Field

from tasks.dataset.archive import Archive
from tasks.importing.annotations import (
    AnnotatedImage,
    Box,
    ImportLog,
    Outline,
    PlaceLog,
    Pose,
    Shape,
    Tag,
    ellipse,
    rotated_box,
)
from tasks.importing.documents import MAX_NUMBER, Coordinate, DocumentError, Record, read_json, records
from tasks.importing.run_lengths import RunLengthError, decode_label_studio, mask_to_rings

# What the server puts before the name of a file that was uploaded to it.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_DRAWN = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels")
_LABELS = (*_DRAWN, "keypointlabels", "choices", "labels")


class _Value(Record):
    x: Coordinate | None = None
    y: Coordinate | None = None
    width: Coordinate | None = None
    height: Coordinate | None = None
    rotation: Coordinate = 0
    radius_x: Coordinate | None = Field(None, alias="radiusX")
    radius_y: Coordinate | None = Field(None, alias="radiusY")
    points: list[tuple[Coordinate, Coordinate]] | None = None
    format: str | None = None
    rle: list[int] | None = None
    rectanglelabels: tuple[str, ...] = ()
    polygonlabels: tuple[str, ...] = ()
    ellipselabels: tuple[str, ...] = ()
    brushlabels: tuple[str, ...] = ()
    keypointlabels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return next((names for kind in _LABELS if (names := getattr(self, kind))), ())


class _Result(Record):
    type: str
    value: _Value
    id: str = ""
    parent: str | None = Field(None, alias="parentID")
    width: int = Field(alias="original_width", ge=1, le=MAX_NUMBER)
    height: int = Field(alias="original_height", ge=1, le=MAX_NUMBER)


class _Annotation(Record):
    result: list[dict[str, Any]]
    was_cancelled: bool = False


class _Task(Record):
    data: dict[str, Any]
    annotations: tuple[_Annotation, ...] = ()


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the image of each task of all JSON files.

    Raises:
        DocumentError: A file is no JSON, or no list of tasks.
    """
    for name in entries:
        tasks = read_json(archive, name)
        if not isinstance(tasks, list):
            raise DocumentError(f"Expected a list of tasks of Label Studio in {name!r}, found {type(tasks).__name__}.")
        for task in records([_whole(task) for task in tasks], _Task, log.at(name)):
            yield from _read_task(task, log.at(name))


def is_task(value: object) -> bool:
    """Return whether a value is a task, in the long form or in the short one."""
    if not isinstance(value, dict):
        return False
    return ("data" in value and "annotations" in value) or any(_is_results(each) for each in value.values())


def _is_results(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "original_width" in value[0]


def _whole(task: object) -> object:
    """Return a task of the short form in the long one."""
    if not isinstance(task, dict) or "data" in task:
        return task
    results = [_typed(each) for value in task.values() if _is_results(value) for each in value]
    return {"data": task, "annotations": [{"result": results}]}


def _typed(item: object) -> object:
    if not isinstance(item, dict):
        return item
    return {**item, "type": next((kind for kind in _LABELS if kind in item), ""), "value": item}


def _read_task(task: _Task, log: PlaceLog) -> Iterator[AnnotatedImage]:
    written = next((value for value in task.data.values() if isinstance(value, str) and "." in value), None)
    if written is None:
        log.add("left out: a task without an image")
        return
    given = [each for each in task.annotations if not each.was_cancelled]
    if len(given) < len(task.annotations):
        log.add("left out: an annotation that was skipped", len(task.annotations) - len(given))
    if not given:
        log.add("left out: an image that nobody has annotated")
        return
    if len(given) > 1:
        log.add("left out: another annotation of an image, after the first", len(given) - 1)
    results = list(records(given[0].result, _Result, log))
    size = (results[0].width, results[0].height) if results else None
    yield AnnotatedImage(name=_file_name(written), size=size, shapes=list(_shapes(results, log)))


def _file_name(written: str) -> str:
    """Return the path that an address means: of a file of the server's, of a store, or of another site."""
    address = urlsplit(written)
    served = parse_qs(address.query).get("d")
    path = unquote(served[0] if served else address.path)
    folder, slash, name = path.rpartition("/")
    return folder + slash + (_UPLOADED.sub("", name) if "/upload" in folder else name)


def _shapes(results: Sequence[_Result], log: PlaceLog) -> Iterator[Shape]:
    points: dict[str, list[_Result]] = {}
    for result in results:
        if result.type == "keypointlabels" and result.parent:
            points.setdefault(result.parent, []).append(result)
    order = {name: at for at, name in enumerate(_names_of_points(points))}
    for result in results:
        if result.type == "keypointlabels" and result.parent:
            continue
        names = result.value.class_names
        if not names:
            log.add(f"left out: a result {result.type or 'without a type'} without a class")
            continue
        if len(names) > 1:
            log.add("left out: another class of an object, after the first", len(names) - 1)
        shape = _shape(result, names[0], log)
        if isinstance(shape, Box) and result.id in points:
            shape = _pose(shape, points.pop(result.id), order)
        if shape:
            yield shape
    if lost := sum(map(len, points.values())):
        log.add("left out: a keypoint that belongs to no upright box (parentID)", lost)


def _names_of_points(points: Mapping[str, list[_Result]]) -> list[str]:
    return sorted({each.value.class_names[0] for own in points.values() for each in own if each.value.class_names})


def _pose(box: Box, points: list[_Result], order: Mapping[str, int]) -> Pose:
    keypoints = np.zeros((len(order), 3))
    for each in points:
        if each.value.class_names and each.value.x is not None and each.value.y is not None:
            x, y = each.value.x * each.width / 100, each.value.y * each.height / 100
            keypoints[order[each.value.class_names[0]]] = x, y, 2
    return Pose(class_name=box.class_name, corners=box.corners, keypoints=keypoints)


def _shape(result: _Result, class_name: str, log: PlaceLog) -> Shape | None:
    value = result.value
    across, down = result.width / 100, result.height / 100
    made: Shape | None = None
    match result.type:
        case "choices":
            return Tag(class_name=class_name)
        case "rectanglelabels" if None not in (value.x, value.y, value.width, value.height):
            left, top = (value.x or 0) * across, (value.y or 0) * down
            width, height = (value.width or 0) * across, (value.height or 0) * down
            made = _rectangle(class_name, (left, top), width, height, value.rotation)
        case "polygonlabels" if value.points and len(value.points) > 2:
            made = Outline(class_name=class_name, rings=(np.array(value.points) * (across, down),))
        case "ellipselabels" if None not in (value.x, value.y, value.radius_x, value.radius_y):
            log.add("changed: an ellipse into an outline")
            centre = (value.x or 0) * across, (value.y or 0) * down
            radii = (value.radius_x or 0) * across, (value.radius_y or 0) * down
            made = ellipse(class_name, centre, *radii, value.rotation)
        case "brushlabels" if value.rle:
            try:
                rings = mask_to_rings(decode_label_studio(value.rle, result.height, result.width))
            except RunLengthError:
                log.add("left out: a brush whose run lengths do not fill it")
                return None
            made = Outline(class_name=class_name, rings=rings) if rings else None
        case "keypointlabels":
            log.add("left out: a keypoint that belongs to no upright box (parentID)")
            return None
    if made is None:
        log.leave_out(result.type, _DRAWN)
    return made


def _rectangle(class_name: str, corner: tuple[float, float], width: float, height: float, degrees: float) -> Shape:
    """Label Studio turns a box round its upper left corner."""
    left, top = corner
    if not degrees:
        return Box(class_name=class_name, corners=(left, top, left + width, top + height))
    turn = math.radians(degrees)
    x = left + width / 2 * math.cos(turn) - height / 2 * math.sin(turn)
    y = top + width / 2 * math.sin(turn) + height / 2 * math.cos(turn)
    return rotated_box(class_name, (x, y), width, height, degrees)

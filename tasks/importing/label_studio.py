"""Label Studio's JSON, whole or its short form (JSON-MIN): https://labelstud.io/guide/export."""

import math
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from pydantic import Field

from tasks.dataset.archive import Archive
from tasks.dataset.image_stats import is_image
from tasks.dataset.zip_names import normal_name
from tasks.errors import safe_repr
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
from tasks.importing.documents import MAX_NUMBER, Coordinate, DocumentError, Record, read_json, read_xml, records
from tasks.importing.run_lengths import RunLengthError, rings_of_brush

CONFIGURATION = "label-config.xml"  # the labelling interface of the project, if people put it beside their export
# What is said of an image, not drawn.
_UNDRAWN = frozenset({"choices", "taxonomy", "rating", "number", "textarea", "datetime"})
# What the server puts before the name of a file that was uploaded to it. People zip its files or their own.
_UPLOADED = re.compile(r"(?<![^/])[0-9a-f]{8}-(?=[^/]+$)")
_DRAWN = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels")
_REGIONS = (*_DRAWN, "keypointlabels")
_LABELS = (*_REGIONS, "choices", "labels")
_TOLD_BY = {  # the first of these fields that a value has; a keypoint has a width, too
    "rectanglelabels": "height",
    "ellipselabels": "radius_x",
    "polygonlabels": "points",
    "brushlabels": "rle",
    "keypointlabels": "x",
}
# Controls that draw alone. Control `Labels` writes the same drawing once more, with its class.
_BARE = frozenset({"rectangle", "ellipse", "polygon", "brush", "keypoint"})
Size = tuple[int, int]  # width, height
_SHORT = frozenset({"id", "annotator"})  # keys of a task of the short form, between which its answers stand


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

    @property
    def is_region(self) -> bool:
        """Whether it says where something is, so that its choices are of that object rather than of the image."""
        return any(each is not None for each in (self.x, self.points, self.rle))


class _Result(Record):
    type: str
    value: _Value
    id: str = ""
    parent: str | None = Field(None, alias="parentID")
    width: int | None = Field(None, alias="original_width", ge=1, le=MAX_NUMBER)
    height: int | None = Field(None, alias="original_height", ge=1, le=MAX_NUMBER)

    @property
    def kind(self) -> str:
        """Return what it draws: beside control `Labels` the fields of its value tell it."""
        drawn = (kind for kind, field in _TOLD_BY.items() if getattr(self.value, field) is not None)
        return next(drawn, self.type) if self.type == "labels" else self.type


class _Annotation(Record):
    result: list[dict[str, Any]]
    was_cancelled: bool = False
    ground_truth: bool | None = None


class _Task(Record):
    data: dict[str, Any]
    annotations: tuple[_Annotation, ...] = ()


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the image of each task of all JSON files.

    Raises:
        DocumentError: A file is no JSON, or no list of tasks.
    """
    files = {_file_of(entry) for entry in archive.entries}
    drawings = [drawing for name in entries for drawing in _read_file(archive, name, files, log.at(name))]
    class_names, declared = _read_configuration(archive, log)
    points = list(dict.fromkeys([*declared, *sorted({name for each in drawings for name in each.names_of_points()})]))
    log.declare(class_names)
    log.declare_keypoints(points)
    columns = {name: at for at, name in enumerate(points)}
    for drawing in drawings:
        shapes = list(drawing.shapes(columns))
        yield AnnotatedImage(
            name=drawing.name,
            size=drawing.size,
            relative=drawing.size is None,
            shapes=shapes,
            lost=drawing.count - len(shapes),
        )


def _read_configuration(archive: Archive, log: ImportLog) -> tuple[list[str], list[str]]:
    """Return the classes and the keypoints that the labelling interface has, in its order; none without its file."""
    names: dict[bool, list[str]] = {False: [], True: []}
    for entry in (each for each in archive.entries if _file_of(each) == CONFIGURATION):
        try:
            root = read_xml(archive, entry)
        except DocumentError as error:
            log.add(f"left out: a file that cannot be read: {error}", entry)
            continue
        for control in (each for each in root.iter() if each.tag.lower() in _LABELS):
            for tag in (*control.iter("Label"), *control.iter("Choice")):
                names[control.tag.lower() == "keypointlabels"].append(tag.get("alias") or tag.get("value") or "")
    return names[False], names[True]


def _read_file(archive: Archive, name: str, files: Container[str], log: PlaceLog) -> Iterator["_Drawing"]:
    tasks = read_json(archive, name)
    if not isinstance(tasks, list):
        raise DocumentError(f"Expected a list of tasks of Label Studio in {name!r}, found {type(tasks).__name__}.")
    for task in records(_whole(tasks, log), _Task, log):
        if drawing := _read_task(task, files, log):
            yield drawing


def is_task(value: object) -> bool:
    """Return whether a value is a task, in the long form or in the short one."""
    if not isinstance(value, dict):
        return False
    return {"data", "annotations"} <= value.keys() or value.keys() >= _SHORT or any(map(_has_regions, value.values()))


def _has_regions(value: object) -> bool:
    """Return whether a value of the short form is a list of drawings."""
    return isinstance(value, list) and any(isinstance(each, dict) and each.keys() & {*_REGIONS} for each in value)


def _whole(tasks: Sequence[object], log: PlaceLog) -> list[object]:
    """Return tasks of the short form in the long one.

    The short form writes a choice and a text alike, as a string: a choice where nothing else tells of the image.

    Raises:
        DocumentError: Choices cannot be told from texts.
    """
    answers = [_answers(task) for task in tasks]
    drawn = any(_has_regions([answer]) for own in answers for _, answer in own)
    strings = Counter(control for own in answers for control, answer in own if isinstance(answer, str))
    if drawn:
        for control, count in strings.items():
            log.add(f"not kept: field {control}, which may be a choice or a text", count)
    elif len(strings) > 1:
        raise DocumentError(
            f"Expected one field of choices in {safe_repr(log.place)}, found {safe_repr(sorted(strings))}: JSON-MIN "
            "writes choices and texts alike. Export JSON rather than JSON-MIN."
        )
    return [
        _long_form(task, [each for each in own if not (drawn and isinstance(each[1], str))])
        for task, own in zip(tasks, answers, strict=True)
    ]


def _long_form(task: object, answers: Sequence[tuple[str, object]]) -> object:
    if not isinstance(task, dict) or "data" in task:
        return task
    given = [{"result": [_result(*each) for each in answers]}]
    return {"data": task, "annotations": given if task.get("annotation_id", "") is not None else []}


def _answers(task: object) -> list[tuple[str, object]]:
    """Return each answer of a task of the short form, behind the name of its control."""
    if not isinstance(task, dict) or "data" in task:
        return []
    controls = [control for control, value in task.items() if _has_regions(value)]
    if task.keys() >= _SHORT:
        keys = list(task)
        controls = keys[keys.index("id") + 1 : keys.index("annotator")]
    found = [(control, each) for control in controls for each in _listed(task[control])]
    return [(control, each) for control, each in found if not (isinstance(each, str) and is_image(each))]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _result(control: str, answer: object) -> dict[str, object]:
    """Return the result of the long form of an answer of the short one."""
    if isinstance(answer, str):
        return {"type": "choices", "value": {"choices": [answer]}}
    if not isinstance(answer, dict):
        return {"type": control, "value": {}}
    return {**answer, "type": next((kind for kind in _LABELS if kind in answer), control), "value": answer}


def _read_task(task: _Task, files: Container[str], log: PlaceLog) -> "_Drawing | None":
    name = _image_name(task.data, files)
    if name is None:
        log.add("left out: a task without an image")
        return None
    given = [each for each in task.annotations if not each.was_cancelled]
    if len(given) < len(task.annotations):
        log.add("left out: an annotation that was skipped", len(task.annotations) - len(given))
    if not given:
        log.add("left out: an image that nobody has annotated")
        return None
    if len(given) > 1:
        log.add("left out: another annotation of an image, beside the one that is taken", len(given) - 1)
    taken = _choose_annotation(given, log)
    results = list(records(taken.result, _Result, log))
    named = {each.id for each in results if each.type == "labels"} - {""}
    twins = sum(each.type in _BARE and each.id in named for each in results)
    results = [each for each in results if not (each.type in _BARE and each.id in named)]
    size = next(((each.width, each.height) for each in results if each.width and each.height), None)
    drawn = len(taken.result) - twins - sum(each.type in _UNDRAWN for each in results)
    return _Drawing(name, size, results, drawn, log)


def _choose_annotation(given: Sequence[_Annotation], log: PlaceLog) -> _Annotation:
    """Return the ground truth, or else the first annotation that is not empty, if there is one."""
    if truth := next((each for each in given if each.ground_truth), None):
        return truth
    answered = [each for each in given if each.result]
    if 0 < len(answered) < len(given):
        log.add("changed: an image that some annotators left empty has what the first of the others drew")
    return next(iter(answered), given[0])


def _image_name(data: Mapping[str, object], files: Container[str]) -> str | None:
    """Return the path of the image of a task, with or without the server's prefix, as `files` has it."""
    paths = [path for value in data.values() if isinstance(value, str) and is_image(path := _path(value))]
    names = [name for path in paths for name in (path, _UPLOADED.sub("", path))]
    return next((name for name in names if _file_of(name) in files), next(iter(paths), None))


def _path(written: str) -> str:
    """Return the path that an address means: of a file of the server's, of a store, or of another site."""
    try:
        address = urlsplit(written)
    except ValueError:
        return written
    served = parse_qs(address.query).get("d")
    return unquote(served[0] if served else address.path)


def _file_of(path: str) -> str:
    return normal_name(path).rpartition("/")[2]


@dataclass(frozen=True)
class _Drawing:
    """What somebody has drawn on an image, whose size in pixels may be unknown; `count` has damaged objects, too."""

    name: str
    size: Size | None
    results: Sequence[_Result]
    count: int
    log: PlaceLog

    def names_of_points(self) -> set[str]:
        """Return the names of the keypoints of its boxes."""
        boxes = {each.id for each in self.results if each.kind == "rectanglelabels"}
        points = (each for each in self.results if each.kind == "keypointlabels" and each.parent in boxes)
        return {each.value.class_names[0] for each in points if each.value.class_names}

    def shapes(self, columns: Mapping[str, int]) -> Iterator[Shape]:
        """Yield its shapes; `columns` says which keypoint of a pose has a name."""
        points: dict[str, list[_Result]] = {}
        for result in self.results:
            if result.kind == "keypointlabels" and result.parent:
                points.setdefault(result.parent, []).append(result)
        for result in self.results:
            if result.kind == "keypointlabels" and result.parent:
                continue
            if not (class_name := _class_name(result, self.log)):
                continue
            shape = self._shape(result, class_name)
            if isinstance(shape, Box) and result.id in points:
                shape = self._pose(shape, points.pop(result.id), columns)
            if shape:
                yield shape
        if lost := sum(map(len, points.values())):
            self.log.add("left out: a keypoint that belongs to no upright box (parentID)", lost)

    def _scale(self) -> tuple[float, float]:
        """Return what a hundredth of the image is: in pixels, or a share of it where its size is not known."""
        width, height = self.size or (1, 1)
        return width / 100, height / 100

    def _pose(self, box: Box, points: Sequence[_Result], columns: Mapping[str, int]) -> Pose:
        across, down = self._scale()
        keypoints = np.zeros((len(columns), 3))
        for each in points:
            value = each.value
            if not value.class_names or value.x is None or value.y is None:
                self.log.add("left out: a keypoint whose name or place is not right")
            elif keypoints[columns[value.class_names[0]], 2]:
                self.log.add("left out: another keypoint of the same name of an object")
            else:
                keypoints[columns[value.class_names[0]]] = value.x * across, value.y * down, 2
        return Pose(class_name=box.class_name, corners=box.corners, keypoints=keypoints)

    def _shape(self, result: _Result, class_name: str) -> Shape | None:
        value = result.value
        across, down = self._scale()
        if not self.size and (value.rotation or value.rle):
            what = "brush" if value.rle else "rotated shape"
            self.log.add(f"left out: a {what} without the size of its image (original_width)")
            return None
        made: Shape | None = None
        match result.kind:
            case "choices":
                return Tag(class_name=class_name)
            case "rectanglelabels" if None not in (value.x, value.y, value.width, value.height):
                left, top = (value.x or 0) * across, (value.y or 0) * down
                width, height = (value.width or 0) * across, (value.height or 0) * down
                made = _rectangle(class_name, (left, top), width, height, value.rotation)
            case "polygonlabels" if value.points and len(value.points) > 2:
                made = Outline(class_name=class_name, rings=(np.array(value.points) * (across, down),))
            case "ellipselabels" if None not in (value.x, value.y, value.radius_x, value.radius_y):
                self.log.add("changed: an ellipse into an outline")
                centre = (value.x or 0) * across, (value.y or 0) * down
                radii = (value.radius_x or 0) * across, (value.radius_y or 0) * down
                made = ellipse(class_name, centre, *radii, value.rotation)
            case "brushlabels" if value.rle and self.size:
                width, height = self.size
                try:
                    rings = rings_of_brush(value.rle, height, width)
                except RunLengthError as error:
                    self.log.add(f"left out: {error.what}")
                    return None
                made = Outline(class_name=class_name, rings=rings)
            case "keypointlabels":
                self.log.add("left out: a keypoint that belongs to no upright box (parentID)")
                return None
        if made is None:
            self.log.leave_out(result.kind, _DRAWN)
        return made


def _class_name(result: _Result, log: PlaceLog) -> str:
    """Return the class of a result, empty if it has none of its own."""
    names = result.value.class_names
    if result.type == "choices" and result.value.is_region:
        log.add("not kept: choice of an object")
        return ""
    if not names:
        log.add(f"left out: a result {result.type or 'without a type'} without a class")
        return ""
    if len(names) > 1:
        what = "an image" if result.type == "choices" else "an object"
        log.add(f"left out: another class of {what}, after the first", len(names) - 1)
    return names[0]


def _rectangle(class_name: str, corner: tuple[float, float], width: float, height: float, degrees: float) -> Shape:
    """Label Studio turns a box round its upper left corner."""
    left, top = corner
    if not degrees:
        return Box(class_name=class_name, corners=(left, top, left + width, top + height))
    turn = math.radians(degrees)
    x = left + width / 2 * math.cos(turn) - height / 2 * math.sin(turn)
    y = top + width / 2 * math.sin(turn) + height / 2 * math.cos(turn)
    return rotated_box(class_name, (x, y), width, height, degrees)

"""COCO: one JSON file a subset, with images, categories and annotations.

https://cocodataset.org/#format-data; CVAT, Roboflow and Label Studio write it with folders of their own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, TypeVar

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, JsonValue

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.importing.annotations import AnnotatedImage, Box, Floats, ImportLog, Outline, PlaceLog, Pose, Shape
from tasks.importing.documents import MAX_NUMBER, Coordinate, Record, read_json, records
from tasks.importing.image_index import subset_of
from tasks.importing.run_lengths import RunLengthError, RunLengths

_DERIVED = frozenset({"id", "area", "num_keypoints"})  # fields of an object that its shape or its place says


def _to_id(written: object) -> object:
    """Return an id as a text: some tools write a number here, and its text or a fraction there."""
    return str(int(written)) if isinstance(written, float) and written.is_integer() else written


Id = Annotated[str, BeforeValidator(_to_id)]


class _Image(Record):
    id: Id
    file_name: str
    width: int | None = Field(None, ge=0, le=MAX_NUMBER)  # some tools write 0 for what they do not know
    height: int | None = Field(None, ge=0, le=MAX_NUMBER)


class _Category(Record):
    id: Id
    name: str
    keypoints: tuple[str, ...] = ()


T = TypeVar("T", _Image, _Category)


class _Annotation(Record):
    model_config = ConfigDict(extra="allow")

    image_id: Id
    category_id: Id
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    segmentation: RunLengths | list[list[Coordinate]] | None = None
    keypoints: list[Coordinate] | None = None
    iscrowd: bool = False
    attributes: Mapping[str, JsonValue] = Field({})


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the images of all files.

    Raises:
        DocumentError: A file is no COCO.
    """
    for name in entries:
        yield from _read_file(read_json(archive, name), name, log)


def _read_file(document: dict[str, object], name: str, log: ImportLog) -> Iterator[AnnotatedImage]:
    place = log.at(name)
    images = _by_id(records(document["images"], _Image, place), "an image", place)
    categories = _by_id(records(document["categories"], _Category, place), "a category", place)
    log.declare(each.name for each in categories.values())
    shapes: defaultdict[str, list[Shape]] = defaultdict(list)
    annotations = document.get("annotations") or []
    for annotation in records(annotations, _Annotation, place):
        image, category = images.get(annotation.image_id), categories.get(annotation.category_id)
        if image is None:
            place.add("left out: an object of an image that is not in the list of images")
        elif category is None:
            place.add("left out: an object of a class that is not in the list of categories")
        elif shape := _shape(annotation, category, (image.height, image.width), place):
            shapes[image.id].append(shape)
    info = document.get("info")
    by_label_studio = isinstance(info, dict) and info.get("contributor") == "Label Studio"
    objects = _count_objects(annotations)
    for image in images.values():
        size = (image.width, image.height) if image.width and image.height else None
        yield AnnotatedImage(
            name=image.file_name,
            folder=parent_folder(name),
            size=size,
            size_is_stored=by_label_studio,
            subset=subset_of(name),
            shapes=shapes[image.id],
            lost=objects[image.id] - len(shapes[image.id]),
        )


def _count_objects(annotations: object) -> Counter[str]:
    """Return how many annotations each image has, those that cannot be read included."""
    listed = annotations if isinstance(annotations, list) else []
    ids = (each.get("image_id") for each in listed if isinstance(each, dict))
    return Counter(str(_to_id(each)) for each in ids if isinstance(each, int | float | str))


def _by_id(listed: Iterable[T], what: str, log: PlaceLog) -> dict[str, T]:
    """Return images or categories by their ids, without those that share one, as an object of it may be of either."""
    found: defaultdict[str, dict[T, None]] = defaultdict(dict)
    for each in listed:
        found[each.id][each] = None
    if shared := sum(len(own) for own in found.values() if len(own) > 1):
        log.add(f"left out: {what} whose id another one has", shared)
    return {at: each for at, (each, *others) in found.items() if not others}


def _shape(
    annotation: _Annotation, category: _Category, size: tuple[int | None, int | None], log: PlaceLog
) -> Shape | None:
    _tell_unread(annotation, log)
    if annotation.iscrowd:
        log.add("left out: a crowd region (iscrowd), which is no single object")
        return None
    if annotation.keypoints and any(annotation.keypoints) and annotation.bbox:
        if annotation.segmentation:
            log.add("not kept: the outline of an object with keypoints")
        return _pose(annotation.keypoints, annotation.bbox, category, log)
    if annotation.keypoints and any(annotation.keypoints):
        log.add("not kept: keypoints of an object without a box")
    unusable = "an outline of fewer than three corners" if any(annotation.segmentation or ()) else ""
    try:
        if rings := _rings(annotation.segmentation, size, log):
            return Outline(class_name=category.name, rings=rings)
    except RunLengthError as error:
        unusable = error.what
    if annotation.bbox:
        return Box(class_name=category.name, corners=_corners(annotation.bbox), unusable=unusable)
    log.add(f"left out: {unusable or 'an object without a box, outline or keypoints'}")
    return None


def _tell_unread(annotation: _Annotation, log: PlaceLog) -> None:
    """Count the attributes of an object, and its fields that nothing reads."""
    for attribute in annotation.attributes:
        log.add(f"not kept: attribute {attribute}")
    for name, value in (annotation.model_extra or {}).items():
        if name not in _DERIVED and value not in (None, 0, "", [], {}):
            log.add(f"not kept: {name} of an object")


def _pose(keypoints: Sequence[float], bbox: Sequence[float], category: _Category, log: PlaceLog) -> Pose | None:
    points = np.array(keypoints)
    if len(points) % 3:
        log.add("left out: keypoints that do not come in threes")
        return None
    log.log.declare_keypoints(
        category.keypoints or map(str, range(len(points) // 3))
    )  # without names they have numbers
    return Pose(class_name=category.name, corners=_corners(bbox), keypoints=points.reshape(-1, 3))


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return x, y, x + width, y + height


def _rings(
    segmentation: RunLengths | list[list[float]] | None,
    size: tuple[int | None, int | None],
    log: PlaceLog,
) -> tuple[Floats, ...]:
    if isinstance(segmentation, RunLengths):
        return segmentation.rings(size)
    rings = []
    for ring in segmentation or ():
        if len(ring) < 6 or len(ring) % 2:
            log.add("left out: a part of an outline with fewer than three corners")
        else:
            rings.append(np.array(ring).reshape(-1, 2))
    return tuple(rings)

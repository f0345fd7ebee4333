"""LabelMe (https://github.com/wkentaro/labelme): a JSON file beside each image."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from pydantic import Field

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.importing.annotations import (
    AnnotatedImage,
    Box,
    Floats,
    ImportLog,
    Outline,
    PlaceLog,
    RotatedBox,
    Shape,
    ellipse,
)
from tasks.importing.documents import MAX_NUMBER, Coordinate, Record, read_json, records
from tasks.importing.image_index import subset_of_image
from tasks.importing.run_lengths import MAX_PIXELS, RunLengthError, rings_of_mask

_KINDS = ("rectangle", "oriented_rectangle", "polygon", "circle", "mask")


class _Shape(Record):
    label: str
    points: list[tuple[Coordinate, Coordinate]]
    shape_type: str = "polygon"
    flags: Mapping[str, bool] = Field({})
    group_id: int | str | None = None
    description: str | None = None
    mask: str | None = None


class _File(Record):
    image_path: str = Field(alias="imagePath")
    width: int | None = Field(None, alias="imageWidth", ge=1, le=MAX_NUMBER)
    height: int | None = Field(None, alias="imageHeight", ge=1, le=MAX_NUMBER)
    flags: Mapping[str, bool] = Field({})


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the image of each JSON file.

    Raises:
        DocumentError: A file is no JSON.
    """
    for name in entries:
        document = read_json(archive, name)
        place = log.at(name)
        for file in records([document], _File, place):
            size = (file.width, file.height) if file.width and file.height else None
            for flag in (flag for flag, on in file.flags.items() if on):
                place.add(f"not kept: flag {flag} of an image")
            objects = document.get("shapes", [])
            shapes = [shape for each in records(objects, _Shape, place) if (shape := _shape(each, place))]
            yield AnnotatedImage(
                name=file.image_path.replace("\\", "/"),
                folder=parent_folder(name),
                size=size,
                subset=subset_of_image(name),
                shapes=shapes,
                lost=len(objects) - len(shapes),
            )


def _tell_unkept(item: _Shape, log: PlaceLog) -> None:
    for flag in (flag for flag, on in item.flags.items() if on):
        log.add(f"not kept: flag {flag}")
    if item.group_id is not None:
        log.add("not kept: group of an object (group_id)")
    if item.description:
        log.add("not kept: description of an object")


def _shape(item: _Shape, log: PlaceLog) -> Shape | None:
    _tell_unkept(item, log)
    points = np.array(item.points, np.float64).reshape(-1, 2)
    made: Shape | None = None
    match item.shape_type:
        case "rectangle" if len(points) == 2:
            (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            made = Box(class_name=item.label, corners=(left, top, right, bottom))
        case "polygon" if len(points) > 2:
            made = Outline(class_name=item.label, rings=(points,))
        case "oriented_rectangle" if len(points) == 4:
            made = RotatedBox(class_name=item.label, corners=points)
        case "circle" if len(points) == 2:
            log.add("changed: a circle into an outline")
            radius = math.dist(*points.tolist())
            made = ellipse(item.label, (points[0, 0], points[0, 1]), radius, radius)
        case "mask" if len(points) == 2 and item.mask:
            try:
                rings = _mask_rings(item.mask)
            except RunLengthError as error:
                log.add(f"left out: {error.what}")
                return None
            made = Outline(class_name=item.label, rings=tuple(ring + points[0] for ring in rings)) if rings else None
    if made is None:
        log.leave_out(item.shape_type, _KINDS)
    return made


def _mask_rings(written: str) -> tuple[Floats, ...]:
    """Return the outlines of a mask, which is a PNG in base64.

    Raises:
        RunLengthError: It is too jagged.
    """
    try:
        data = base64.b64decode(written, validate=True)
    except ValueError:  # binascii.Error among them
        return ()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return ()
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if not 0 < width * height <= MAX_PIXELS:
        return ()
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return () if mask is None else rings_of_mask(mask > 0)

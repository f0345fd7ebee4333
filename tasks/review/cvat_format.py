"""What CVAT is told of images, and what its export says of those that people have finished.

`tasks/importing/cvat.py` reads what comes back: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import numpy as np
from defusedxml import ElementTree

from tasks.dataset.archive import ArchiveError, open_archive
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.importing.annotations import Box, Outline, Pose, RotatedBox, Shape, Tag
from tasks.parameters import ValidationPolicy
from tasks.review.class_names import require_showable
from tasks.review.pictures import shown_name
from tasks.review.rounds import Round

DOCUMENT = "annotations.xml"  # of an export
MAX_DOCUMENT_BYTES = 2**28
_LONGEST_NAME = 64  # of a label
_SHOWN_NAME = 60  # signs of the name of an image that people see
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_LABELS = {"detect": "rectangle", "obb": "rectangle", "segment": "polygon", "classify": "tag"}
FIX = "CVAT_URL has to name a server of CVAT 2.80 or one like it."


class CvatTaskError(StudioError):
    """A task that cannot be reviewed in CVAT."""


class CvatExportError(StudioError):
    """An export of CVAT that cannot be read."""


def require_supported(task: str) -> None:
    """Check that objects of a task come back from CVAT as they were suggested.

    Raises:
        CvatTaskError: They would not: a skeleton of CVAT has no box.
    """
    if task not in _LABELS:
        fix = "Set review.tool to label-studio or front-page: a skeleton of CVAT has no box."
        raise CvatTaskError(expected_found_fix(f"task {', '.join(_LABELS)} for a review in CVAT", task, fix))


def is_supported(task: str) -> bool:
    """Return whether objects of a task come back from CVAT as they were suggested."""
    return task in _LABELS


def to_labels(task: str, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the labels of a task of CVAT, each with the only shape that people can draw for it.

    Raises:
        ClassNameError: A class has no name, or one that CVAT would change.
        CvatTaskError: It cannot be reviewed in CVAT.
    """
    require_supported(task)
    require_showable(class_names, _LONGEST_NAME)
    return [{"name": name, "type": _LABELS[task], "attributes": []} for name in class_names]


def name_files(review: Round) -> list[str]:
    """Return the name in CVAT of each image of a round: its number, and what of its own every system can write."""
    names = (_UNSAFE.sub("_", shown_name(image.entry))[-_SHOWN_NAME:] for image in review.images)
    return [f"{at:06d}-{name}" for at, name in enumerate(names)]


def to_annotations(
    suggested: Sequence[tuple[Shape, float]], frame: int, label_ids: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """Return the tags and shapes of a frame: shapes in pixels of its image, with scores, 0 to 1; a tag has none."""
    tags, shapes = [], []
    for shape, confidence in suggested:
        about = {"label_id": label_ids[shape.class_name], "frame": frame, "source": "auto", "attributes": []}
        if isinstance(shape, Tag):
            tags.append(about)
        else:
            flags = {"occluded": False, "outside": False, "z_order": 0, "score": min(max(confidence, 0.0), 1.0)}
            shapes.append(about | flags | _geometry(shape))
    return {"tags": tags, "shapes": shapes}


def _geometry(shape: Box | RotatedBox | Outline | Pose) -> dict[str, Any]:
    match shape:
        case Outline():
            (ring,) = shape.rings
            return {"type": "polygon", "points": ring.ravel().tolist(), "rotation": 0.0}
        case RotatedBox():
            first, second, third = shape.corners[:3]
            half = np.array([math.dist(first, second), math.dist(second, third)]) / 2
            centre = (first + third) / 2
            degrees = math.degrees(math.atan2(*(second - first)[::-1])) % 360
            points = np.concatenate([centre - half, centre + half]).tolist()
            return {"type": "rectangle", "points": points, "rotation": degrees}
        case Box() | Pose():
            return {"type": "rectangle", "points": [float(each) for each in shape.corners], "rotation": 0.0}


def read_export(path: Path) -> dict[str, str]:
    """Return the element of each image in an export in format CVAT for images 1.1, as XML, by the name of the image.

    Raises:
        CvatExportError: It is none, or names an image twice.
    """
    archive, faults = open_archive(path, ValidationPolicy())
    if archive is None:
        raise CvatExportError(expected_found_fix("an export of CVAT", faults[0].message, FIX))
    with archive:
        try:
            text = archive.read(DOCUMENT, MAX_DOCUMENT_BYTES)
        except (ArchiveError, KeyError) as error:
            found = "none" if isinstance(error, KeyError) else safe_repr(str(error), 200)
            raise CvatExportError(expected_found_fix(f"{DOCUMENT} in an export of CVAT", found, FIX)) from error
    images: dict[str, str] = {}
    try:
        for element in _image_elements(text):
            name = element.get("name", "")
            if name in images:
                found = f"{safe_repr(name)} twice"
                raise CvatExportError(expected_found_fix("each image once in an export of CVAT", found, FIX))
            element.tail = None
            images[name] = tostring(element, encoding="unicode")
            element.clear()
    except (ParseError, ValueError, LookupError, RecursionError) as error:  # defusedxml's are of ValueError
        found = safe_repr(str(error), 200)
        raise CvatExportError(expected_found_fix("XML in an export of CVAT", found, FIX)) from error
    return images


def _image_elements(document: bytes) -> Iterator[Element]:
    """Yield the images of a document, one in memory at a time."""
    depth = 0
    for event, element in ElementTree.iterparse(BytesIO(document), events=("start", "end"), forbid_dtd=True):
        depth += 1 if event == "start" else -1
        if event == "end" and depth == 1 and element.tag == "image":
            yield element


def to_document(class_names: Sequence[str], images: Iterable[tuple[str, str]]) -> bytes:
    """Return a document of CVAT with images as `read_export` gives them, under the names that come with them.

    It holds nothing that says when it was made.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for class_name in class_names:
        SubElement(SubElement(labels, "label"), "name").text = class_name
    for name, image in images:
        element = ElementTree.fromstring(image)
        element.set("name", name)
        root.append(element)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text

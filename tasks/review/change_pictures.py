"""Images that people have changed, each as it was suggested and as it is now."""

import zipfile
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.importing.annotations import Floats, Outline, Pose, RotatedBox, Shape, Tag
from tasks.media.annotate import annotate_image
from tasks.media.errors import MediaError
from tasks.media.images import decode_image, encode_jpeg, resize_to_fit
from tasks.rendering.html import jpeg_data_uri
from tasks.rendering.palette import ABSENT, OTHERS
from tasks.review.changes import Change
from tasks.review.comparison import ChangedImage
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb

_SIDE = 400  # pixels of a picture
_QUALITY = 78
_MOST_NAMED = 12  # objects: more names would hide the image

_Scored = Sequence[tuple[Shape, float]]


@dataclass(frozen=True, kw_only=True)
class ChangePicture:
    """An image by its name, what was done to it in words, and two pictures of it as data URIs."""

    name: str
    words: str
    suggested: str
    corrected: str


def draw_changes(archive: Path, changed: Sequence[ChangedImage], class_names: Sequence[str]) -> list[ChangePicture]:
    """Return the pictures of images of an archive; one that takes too long to decode has none."""
    pictures = []
    with zipfile.ZipFile(archive) as file:
        for each in changed:
            with suppress(MediaError):
                image = resize_to_fit(decode_image(file.read(each.entry)), _SIDE)
                suggested, corrected = (
                    jpeg_data_uri(encode_jpeg(side, _QUALITY)) for side in _draw_sides(image, each, class_names)
                )
                pictures.append(
                    ChangePicture(name=each.image.source, words=_words(each), suggested=suggested, corrected=corrected)
                )
    return pictures


def _words(changed: ChangedImage) -> str:
    kinds = [each.change for each in changed.changes]
    counts = [f"{kinds.count(kind)} {kind}" for kind in Change if kind in kinds and kind is not Change.ACCEPTED]
    return ", ".join([*counts, *([] if changed.seconds is None else [f"{changed.seconds:.0f} s"])])


def _draw_sides(image: Rgb, changed: ChangedImage, class_names: Sequence[str]) -> tuple[Rgb, Rgb]:
    """Draw what was suggested, and what is there now; what only the other one has is dashed."""
    labels = [(shape, float("nan")) for shape in changed.labels]
    kept, still, gone, new = set[int](), set[int](), list[tuple[Shape, float]](), list[tuple[Shape, float]]()
    for each in changed.changes:
        if each.label is None and each.suggestion is not None:
            gone.append(changed.suggestions[each.suggestion])
        elif each.suggestion is None and each.label is not None:
            new.append(labels[each.label])
        elif each.change is Change.ACCEPTED and each.suggestion is not None and each.label is not None:
            kept.add(each.suggestion)
            still.add(each.label)
    size = changed.image.width, changed.image.height
    return (
        _draw(image, size, changed.suggestions, kept, new, class_names),
        _draw(image, size, labels, still, gone, class_names),
    )


def _draw(
    image: Rgb,
    size: tuple[int, int],
    shapes: _Scored,
    same: AbstractSet[int],
    absent: _Scored,
    class_names: Sequence[str],
) -> Rgb:
    """Draw shapes in the colours of their classes, the `same` ones grey, and those that are `absent` dashed."""
    own = [each for place, each in enumerate(shapes) if place not in same]
    groups = (
        ([shapes[place] for place in sorted(same)], OTHERS, False),
        (absent, ABSENT, True),
        (own, None, False),
    )
    canvas = image
    for group, colour, dashed in groups:
        if group:
            found = _to_detections(group, size, class_names).rescale(image.shape[1], image.shape[0])
            named = group is own and len(own) <= _MOST_NAMED
            canvas = annotate_image(canvas, found, class_names, labels=named, colour=colour, dashed=dashed)
    return canvas


def _to_detections(shapes: _Scored, size: tuple[int, int], class_names: Sequence[str]) -> Detections:
    """Return shapes of one kind, which lie in an image of this width and height, as detections."""
    width, height = size
    whole = np.array([[0, 0], [width, height]], np.float64)
    numbers = {name: number for number, name in enumerate(class_names)}
    corners: list[Floats] = []
    polygons, keypoints = [], []
    for shape, _ in shapes:
        match shape:
            case Outline():
                polygons.append(np.asarray(max(shape.rings, key=len), np.float32))
                corners.append(np.concatenate(shape.rings))
            case RotatedBox():
                polygons.append(np.asarray(shape.corners, np.float32))
                corners.append(shape.corners)
            case Pose():
                keypoints.append(np.column_stack([shape.keypoints[:, :2], shape.keypoints[:, 2] > 0]))
                corners.append(np.reshape(shape.corners, (2, 2)))
            case Tag():
                corners.append(whole)
            case _:
                corners.append(np.reshape(shape.corners, (2, 2)))
    boxes = [np.concatenate([each.min(axis=0), each.max(axis=0)]) for each in corners]
    return Detections(
        width=width,
        height=height,
        xyxy=np.array(boxes, np.float32),
        confidence=np.array([confidence for _, confidence in shapes], np.float32),
        class_id=np.array([numbers.get(shape.class_name, len(numbers)) for shape, _ in shapes], np.int32),
        polygons=tuple(polygons) or None,
        keypoints=np.array(keypoints, np.float32) if keypoints else None,
    )

"""The archive that came back beside what was suggested: what changed, and which labels a model has made."""

import heapq
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path, PurePosixPath

import numpy as np

from tasks.dataset.label_origins import LabelOrigin, Origin
from tasks.dataset.yolo_archive import PROVENANCE, class_folder
from tasks.importing.annotations import Box, Floats, Outline, Pose, RotatedBox, Shape, Tag
from tasks.review.changes import Change, ObjectChange, ReviewTotals, compare_shapes
from tasks.review.rounds import Round, RoundImage, to_shapes

SHOWN_IMAGES = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangedImage:
    """An image of the archive: what was suggested in it, what is there now, and what happened to each object.

    `entry` is its name in the archive. Suggestions have their confidence. `seconds` say how long a person had it open,
    if that is known.
    """

    entry: str
    image: RoundImage
    suggestions: Sequence[tuple[Shape, float]]
    labels: Sequence[Shape]
    changes: Sequence[ObjectChange]
    seconds: float | None

    @property
    def changed(self) -> int:
        """How many objects are not as they were suggested."""
        return sum(each.change is not Change.ACCEPTED for each in self.changes)


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """What people did, the origins of the labels, and the images in which most was changed, those first."""

    totals: ReviewTotals
    origins: Sequence[LabelOrigin]
    most_changed: Sequence[ChangedImage]


def compare_with_archive(
    archive: Path, review: Round, class_names: Sequence[str], seconds: Mapping[str, float], flow_run_id: str
) -> Comparison:
    """Return what a person changed in the images of a YOLO archive of ours, and the origins of its labels.

    Args:
        archive: What was made of what came back, with `provenance.json`, which says the entry of each image before.
        review: The round that it came from.
        class_names: Of the archive.
        seconds: How long a person had an image open, by its entry in the round, if that is known.
        flow_run_id: The run of the round.
    """
    totals = ReviewTotals()
    origins: list[LabelOrigin] = []

    def changed_images() -> Iterator[ChangedImage]:
        for each in _compare_images(archive, review, class_names, seconds):
            totals.add(each.changes, each.seconds)
            origins.extend(_origins(each, review, flow_run_id))
            if each.changed:
                yield each

    most_changed = heapq.nlargest(SHOWN_IMAGES, changed_images(), key=attrgetter("changed"))
    return Comparison(totals=totals, origins=origins, most_changed=most_changed)


def _compare_images(
    archive: Path, review: Round, class_names: Sequence[str], seconds: Mapping[str, float]
) -> Iterator[ChangedImage]:
    images = {image.entry: image for image in review.images}
    with zipfile.ZipFile(archive) as file:
        sources: dict[str, str] = json.loads(file.read(PROVENANCE))["images"]
        for entry, source in sources.items():
            image = images[source]
            suggested = [(_inside(shape, image), score) for shape, score in to_shapes(review.task, image)]
            labels = _read_labels(file, entry, review.task, class_names, image)
            yield ChangedImage(
                entry=entry,
                image=image,
                suggestions=suggested,
                labels=labels,
                changes=compare_shapes([shape for shape, _ in suggested], labels),
                seconds=seconds.get(source),
            )


def _origins(compared: ChangedImage, review: Round, flow_run_id: str) -> Iterator[LabelOrigin]:
    accepted = [
        LabelOrigin(
            image=compared.entry,
            row=each.label,
            origin=Origin.ACCEPTED,
            model_name=review.model_name,
            model_version=review.model_version,
            confidence=compared.suggestions[each.suggestion][1],
            flow_run_id=flow_run_id,
        )
        for each in compared.changes
        if each.change is Change.ACCEPTED and each.suggestion is not None
    ]
    yield from accepted
    yield from _reviewed(compared.entry, review.task, accepted, flow_run_id)


def _reviewed(entry: str, task: str, accepted: Sequence[LabelOrigin], flow_run_id: str) -> Iterator[LabelOrigin]:
    """Yield that a person has looked at an image; of a class of a whole image, if that is not the model's."""
    whole = task == "classify"
    if not (whole and accepted):
        yield LabelOrigin(image=entry, row=0 if whole else None, origin=Origin.HUMAN, flow_run_id=flow_run_id)


def _read_labels(
    file: zipfile.ZipFile, entry: str, task: str, class_names: Sequence[str], image: RoundImage
) -> list[Shape]:
    """Return the labels of an image in the order of their rows; the corner of a pixel is at whole numbers."""
    path = PurePosixPath(entry)
    if task == "classify":
        folders = {class_folder(name): name for name in class_names}
        return [Tag(class_name=folders.get(path.parent.name, path.parent.name))]
    label = PurePosixPath("labels", *path.parts[1:]).with_suffix(".txt")
    sides = np.array([image.width, image.height], np.float64)
    rows = [line.split() for line in file.read(str(label)).decode().splitlines()]
    return [_to_shape(task, class_names[int(row[0])], np.array(row[1:], np.float64), sides) for row in rows]


def _to_shape(task: str, name: str, numbers: Floats, sides: Floats) -> Shape:
    if task == "segment":
        return Outline(class_name=name, rings=(numbers.reshape(-1, 2) * sides,))
    if task == "obb":
        return RotatedBox(class_name=name, corners=numbers.reshape(-1, 2) * sides)
    centre, size = numbers[:2] * sides, numbers[2:4] * sides
    left, top, right, bottom = np.concatenate([centre - size / 2, centre + size / 2]).tolist()
    if task == "detect":
        return Box(class_name=name, corners=(left, top, right, bottom))
    points = numbers[4:].reshape(-1, 3) * [*sides, 1]
    return Pose(class_name=name, corners=(left, top, right, bottom), keypoints=points)


def _inside(shape: Shape, image: RoundImage) -> Shape:
    """Return a rotated box as a row has it, with its corners in the image."""
    if not isinstance(shape, RotatedBox):
        return shape
    return RotatedBox(class_name=shape.class_name, corners=np.clip(shape.corners, 0, [image.width, image.height]))

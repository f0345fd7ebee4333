"""Images of an evaluation as the page shows them: the worst ones, and examples of each confusion.

All are drawn at one size, small images enlarged, so that lines and letters are as large in each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tasks.evaluation.confusion import BACKGROUND, Confusion, pair_objects
from tasks.evaluation.labelled_images import EvaluationSet
from tasks.evaluation.matching import NO_LABEL, match
from tasks.evaluation.version_evaluation import VersionEvaluation
from tasks.media.annotate import annotate_image
from tasks.media.images import encode_jpeg, read_image, resize_to_fit
from tasks.rendering.html import jpeg_data_uri
from tasks.rendering.palette import ABSENT
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb

SHOWN_CLASSES = 20  # of the matrix
EXAMPLES = 4  # of a cell
MAX_EXAMPLES = 240  # of all cells
# Colours that people with any colour vision tell apart (Okabe and Ito); the legends of the pages have the same.
RIGHT, WRONG = (86, 180, 233), (213, 94, 0)
_SIDE, _EXAMPLE_SIDE = 400, 300  # pixels
_QUALITY = 78
_MOST_NAMED = 12  # objects: more names would hide the image


@dataclass(frozen=True, kw_only=True)
class WorstImage:
    """An image with its labels, and with what each version found; pictures are data URIs."""

    name: str
    archive: str
    labels: str
    found: tuple[tuple[int, str, str], ...]  # version, its mistakes in words, picture


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the matrix: how many objects of a class were found as another, and `examples` (name, picture)."""

    true: str
    found: str
    count: int
    share: float
    is_right: bool
    examples: tuple[tuple[str, str], ...] = ()


def draw_worst(
    data: EvaluationSet, evaluations: Sequence[VersionEvaluation], most: int, names: Sequence[str]
) -> list[WorstImage]:
    """Return at most `most` images in which the first version makes mistakes, those with the most first."""
    mistakes = np.array(evaluations[0].mistakes)
    worst = [number for number in np.argsort(-mistakes, kind="stable")[:most].tolist() if mistakes[number]]
    return [draw_sides(data, evaluations, number, names) for number in worst]


def draw_sides(
    data: EvaluationSet, evaluations: Sequence[VersionEvaluation], number: int, names: Sequence[str]
) -> WorstImage:
    """Return the image of a number, with its labels and with what each version found."""
    image = resize_to_fit(read_image(data.images[number].path), _SIDE)
    labels = evaluations[0].images[number].labels
    return WorstImage(
        name=data.images[number].name,
        archive=data.images[number].archive,
        labels=_uri(_draw(image, without_scores(labels), names, named=len(labels) <= _MOST_NAMED)),
        found=tuple(_draw_found(image, each, number, names) for each in evaluations),
    )


def draw_matrix(data: EvaluationSet, evaluation: VersionEvaluation, names: Sequence[str]) -> list[list[Cell]]:
    """Return the rows of the confusion matrix: true classes, then what was not labelled; columns are found classes.

    Of more than `SHOWN_CLASSES` those with the most wrong objects are shown, and the wrong cells have examples.
    """
    confusion = evaluation.confusion
    shown = [*_most_confused(confusion, len(names)), BACKGROUND]
    wrong = sorted(_wrong_cells(confusion, shown), key=lambda cell: -confusion.count(*cell))
    drawn = {*wrong[: MAX_EXAMPLES // EXAMPLES]}
    rows = []
    for true in shown:
        total = sum(len(images) for (own, _), images in confusion.cells.items() if own == true)
        cells = []
        for found in shown:
            images = confusion.cells.get((true, found), ())
            examples = dict.fromkeys(images) if (true, found) in drawn else {}
            cells.append(
                Cell(
                    true=_name(names, true, "not labelled"),
                    found=_name(names, found, "not found"),
                    count=len(images),
                    share=len(images) / max(1, total),
                    is_right=true == found != BACKGROUND,
                    examples=tuple(_example(data, evaluation, each, names) for each in [*examples][:EXAMPLES]),
                )
            )
        rows.append(cells)
    return rows


class FoundObjects(NamedTuple):
    """What counts in an image, as the confusion counts it.

    `right` detections stand for a label of their class, `confused` ones for a label of another class, `false` ones for
    none; nothing stands for `missed` labels.
    """

    right: Detections
    confused: Detections
    false: Detections
    missed: Detections

    @property
    def mistakes(self) -> str:
        """The mistakes by their kinds, such as `2 missed, 1 false`."""
        kinds = (self.missed, "missed"), (self.confused, "of another class"), (self.false, "false")
        return ", ".join(f"{len(each)} {kind}" for each, kind in kinds if len(each)) or "no mistake"


def sort_objects(evaluation: VersionEvaluation, number: int) -> FoundObjects:
    """Return what a version found in the image of a number, with the thresholds of its classes."""
    image = evaluation.images[number]
    matching = match([image])
    pairs = pair_objects(matching, evaluation.confidence)
    found = image.predictions.select(matching.place[pairs.row])
    label_class = np.append(matching.label_class, NO_LABEL)  # the last is that of no label
    is_right = found.class_id == label_class[pairs.label]
    is_false = pairs.label == NO_LABEL
    return FoundObjects(
        right=found.select(is_right),
        confused=found.select(~is_right & ~is_false),
        false=found.select(is_false),
        missed=image.labels.select(np.flatnonzero(~image.ignored)[pairs.missed]),
    )


def without_scores(labels: Detections) -> Detections:
    """Return labels as they are drawn: nobody was sure of them by a number."""
    return replace(labels, confidence=np.full(len(labels), np.nan, np.float32))


def _most_confused(confusion: Confusion, classes: int) -> list[int]:
    wrong = np.zeros(classes, int)
    for true, found in _wrong_cells(confusion, range(BACKGROUND, classes)):
        for number in {true, found} - {BACKGROUND}:
            wrong[number] += confusion.count(true, found)
    return sorted(np.argsort(-wrong, kind="stable")[:SHOWN_CLASSES].tolist())


def _wrong_cells(confusion: Confusion, classes: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((true, found) for true, found in confusion.cells if true != found and {true, found} <= {*classes})


def _example(data: EvaluationSet, evaluation: VersionEvaluation, number: int, names: Sequence[str]) -> tuple[str, str]:
    image = resize_to_fit(read_image(data.images[number].path), _EXAMPLE_SIDE)
    return data.images[number].name, _draw_found(image, evaluation, number, names)[2]


def _draw_found(image: Rgb, evaluation: VersionEvaluation, number: int, names: Sequence[str]) -> tuple[int, str, str]:
    """The version, its mistakes in words, and the image with what it found and missed."""
    objects = sort_objects(evaluation, number)
    room = max(image.shape) >= _SIDE and sum(map(len, objects)) <= _MOST_NAMED
    drawn = _draw(image, objects.right, names, named=room, colour=RIGHT)
    drawn = _draw(drawn, without_scores(objects.missed), names, named=room, colour=ABSENT, dashed=True)
    for wrong in (objects.confused, objects.false):
        drawn = _draw(drawn, wrong, names, colour=WRONG)
    return evaluation.version, objects.mistakes, _uri(drawn)


def _draw(
    image: Rgb,
    detections: Detections,
    names: Sequence[str],
    *,
    named: bool = True,
    colour: tuple[int, int, int] | None = None,
    dashed: bool = False,
) -> Rgb:
    shown = detections.rescale(image.shape[1], image.shape[0])
    return annotate_image(image, shown, names, labels=named, colour=colour, dashed=dashed)


def _name(names: Sequence[str], number: int, background: str) -> str:
    return background if number == BACKGROUND else names[number]


def _uri(image: Rgb) -> str:
    return jpeg_data_uri(encode_jpeg(image, _QUALITY))

"""Images of an evaluation as the page shows them: the worst ones, and examples of each confusion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.evaluation.confusion import BACKGROUND, Confusion
from tasks.evaluation.labelled_images import EvaluationSet
from tasks.evaluation.version_evaluation import VersionEvaluation
from tasks.media.annotate import annotate_image
from tasks.media.images import encode_jpeg, read_image, shrink_to_fit
from tasks.rendering.html import jpeg_data_uri
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb

SHOWN_CLASSES = 20  # of the matrix
EXAMPLES = 4  # of a cell
MAX_EXAMPLES = 240  # of all cells
_SIDE, _EXAMPLE_SIDE = 400, 260  # pixels
_QUALITY = 78
_LABELLED = (205, 205, 205)


@dataclass(frozen=True, kw_only=True)
class WorstImage:
    """An image with its labels, and with what each version found; pictures are data URIs."""

    name: str
    archive: str
    labels: str
    found: tuple[tuple[int, int, str], ...]  # version, its mistakes, picture


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
    image = shrink_to_fit(read_image(data.images[number].path), _SIDE)
    labels = evaluations[0].images[number].labels
    found = (
        (each.version, each.mistakes[number], _uri(_draw(image, counted_detections(each, number), names)))
        for each in evaluations
    )
    return WorstImage(
        name=data.images[number].name,
        archive=data.images[number].archive,
        labels=_uri(_draw(image, labels, names, texts=False)),
        found=tuple(found),
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


def counted_detections(evaluation: VersionEvaluation, number: int) -> Detections:
    """Return the detections in an image that reach the threshold of their class."""
    detections = evaluation.images[number].predictions
    limits = np.array([evaluation.confidence[each] for each in detections.class_id.tolist()])
    return detections.select(detections.confidence >= limits)


def _most_confused(confusion: Confusion, classes: int) -> list[int]:
    wrong = np.zeros(classes, int)
    for true, found in _wrong_cells(confusion, range(BACKGROUND, classes)):
        for number in {true, found} - {BACKGROUND}:
            wrong[number] += confusion.count(true, found)
    return sorted(np.argsort(-wrong, kind="stable")[:SHOWN_CLASSES].tolist())


def _wrong_cells(confusion: Confusion, classes: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((true, found) for true, found in confusion.cells if true != found and {true, found} <= {*classes})


def _example(data: EvaluationSet, evaluation: VersionEvaluation, number: int, names: Sequence[str]) -> tuple[str, str]:
    image = shrink_to_fit(read_image(data.images[number].path), _EXAMPLE_SIDE)
    labels = evaluation.images[number].labels
    if not labels.is_of_whole_picture:
        image = _draw(image, labels, names, texts=False, plain=True)
    return data.images[number].name, _uri(_draw(image, counted_detections(evaluation, number), names))


def _draw(image: Rgb, detections: Detections, names: Sequence[str], *, texts: bool = True, plain: bool = False) -> Rgb:
    shown = detections.rescale(image.shape[1], image.shape[0])
    return annotate_image(
        image, shown, names, labels=texts or shown.is_of_whole_picture, colour=_LABELLED if plain else None
    )


def _name(names: Sequence[str], number: int, background: str) -> str:
    return background if number == BACKGROUND else names[number]


def _uri(image: Rgb) -> str:
    return jpeg_data_uri(encode_jpeg(image, _QUALITY))

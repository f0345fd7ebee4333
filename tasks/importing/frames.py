"""What the numbers of annotations refer to, if EXIF turns images: some tools show an image as stored, others as turned.

Training and inference see each image as EXIF shows it, so this is what labels have to refer to.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tasks.dataset.image_stats import ImageStats
from tasks.importing.annotations import AnnotatedImage, Floats, ImportLog, Outline

_SWAPPED = 5  # orientations from here on swap the sides
_TURNED_ACROSS = frozenset({2, 3, 6, 7})  # what is left then goes to the right
_TURNED_DOWN = frozenset({3, 4, 7, 8})


class Frame(NamedTuple):
    """The width and height of what was drawn on, in the units of its shapes: pixels, or 1 and 1 for shares.

    `orientation` is the one of EXIF (1 to 8) that turns it into what is shown; 1 if it was drawn on as it is shown.
    """

    width: float
    height: float
    orientation: int = 1


def shown_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Return the size in which an image is shown that is stored in this one, by its EXIF orientation (1 to 8)."""
    return (width, height) if orientation < _SWAPPED else (height, width)


def turn_shares(points: Floats, orientation: int) -> Floats:
    """Return where points (k, 2), in shares of an image as stored, lie in the image as EXIF (1 to 8) shows it."""
    x, y = (points if orientation < _SWAPPED else points[:, ::-1]).T
    return np.column_stack(
        [1 - x if orientation in _TURNED_ACROSS else x, 1 - y if orientation in _TURNED_DOWN else y],
    )


def find_frames(
    images: Mapping[str, AnnotatedImage], stats: Mapping[str, ImageStats], log: ImportLog
) -> dict[str, Frame | None]:
    """Return the frame of each image; None if its tool saw it turned in a way that its file does not tell.

    Where the size of an image that EXIF turns does not tell how its tool has shown it, the tool is taken to have done
    as with most of the others.
    """
    turned = [entry for entry, image in images.items() if image.shapes and stats[entry].orientation != 1]
    told = {entry: _is_of_stored(images[entry], stats[entry]) for entry in turned}
    counts = Counter(told.values())
    most = counts[True] > counts[False]
    stored = {entry for entry, known in told.items() if (most if known is None else known)}
    if turned:
        log.note(
            f"images that EXIF turns: {len(turned) - len(stored):,} drawn on as shown, and {len(stored):,} as stored, "
            "whose labels are turned"
        )
    if counts[None]:
        taken = "stored, as most of the others" if most else "shown"
        log.note(f"width and height do not tell it of {counts[None]:,} of them, which are taken as {taken}")
    return {entry: _frame(entry, image, stats[entry], entry in stored, log) for entry, image in images.items()}


def _is_of_stored(image: AnnotatedImage, stats: ImageStats) -> bool | None:
    """Return whether annotations are of an image as stored, not as EXIF shows it; None if their size does not tell."""
    stored = stats.width, stats.height
    if image.size_is_stored:
        return False
    if image.size is None or shown_size(*stored, stats.orientation) == stored or image.size[0] == image.size[1]:
        return None
    return (image.size[0] > image.size[1]) == (stored[0] > stored[1])


def _frame(entry: str, image: AnnotatedImage, stats: ImageStats, as_stored: bool, log: ImportLog) -> Frame | None:
    orientation = stats.orientation if as_stored else 1
    if image.relative:
        return Frame(1, 1, orientation)
    stored = stats.width, stats.height
    drawn_on = stored if as_stored else shown_size(*stored, stats.orientation)
    if image.size in {None, drawn_on}:
        return Frame(*drawn_on, orientation)
    if image.size == drawn_on[::-1]:
        outlined = {isinstance(shape, Outline) for shape in image.shapes}
        if image.size_is_stored and image.size == stored and len(outlined) == 1:
            return Frame(*(stored if outlined == {True} else drawn_on))
        if image.shapes:
            log.add("left out: annotations whose width and height are swapped in their image", entry, len(image.shapes))
        return None
    log.add("changed: annotations of an image of another size, taken in proportion", entry)
    return Frame(*image.size, orientation)

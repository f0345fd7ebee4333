"""Contact sheets: the thumbnails of a chunk in one JPEG, because an object for each would cost more."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tasks.media.images import write_jpeg
from tasks.vision.geometry import Rgb

COLUMNS = 8
CELL_WIDTH = 256  # both whole blocks of JPEG: at most a pixel of a cell runs into the next
CELL_HEIGHT = 192
CELLS = 64
QUALITY = 80
BACKGROUND_GREY = 20  # of 255, in all three channels: a grey is filled in ten times as fast as a colour

_MIN_SHRINK = 4  # times, at least, that are left to shrink after pixels were dropped


class ContactSheet:
    """At most `CELLS` thumbnails, counted row by row from 0."""

    def __init__(self) -> None:
        self._cells: list[Rgb] = []

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def is_full(self) -> bool:
        """Whether no cell is left."""
        return len(self._cells) >= CELLS

    def add(self, thumbnail: Rgb) -> int:
        """Put an uint8 [H, W, 3] image into the next cell and return its number.

        Raises:
            ValueError: The sheet is full, or the image is larger than a cell.
        """
        height, width = thumbnail.shape[:2]
        if self.is_full or height > CELL_HEIGHT or width > CELL_WIDTH:
            raise ValueError(
                f"expected at most {CELLS} thumbnails of at most {CELL_WIDTH}x{CELL_HEIGHT}, found number "
                f"{len(self) + 1} of {width}x{height}; begin another sheet, and make it with thumbnail()"
            )
        self._cells.append(thumbnail)
        return len(self._cells) - 1

    def pixels(self) -> Rgb:
        """Return the grid, uint8 [rows * CELL_HEIGHT, COLUMNS * CELL_WIDTH, 3], each thumbnail centred in its cell."""
        rows = max(-(-len(self._cells) // COLUMNS), 1)
        grid = np.full((rows * CELL_HEIGHT, COLUMNS * CELL_WIDTH, 3), BACKGROUND_GREY, np.uint8)
        for cell, thumbnail in enumerate(self._cells):
            height, width = thumbnail.shape[:2]
            row, column = divmod(cell, COLUMNS)
            top = row * CELL_HEIGHT + (CELL_HEIGHT - height) // 2
            left = column * CELL_WIDTH + (CELL_WIDTH - width) // 2
            grid[top : top + height, left : left + width] = thumbnail
        return grid

    def write(self, path: Path) -> None:
        """Write the grid as JPEG, complete under its name or not at all."""
        write_jpeg(path, self.pixels(), quality=QUALITY)


def cut_cells(sheet: Rgb, cells: Sequence[int]) -> Rgb:
    """Return thumbnails of a grid side by side, uint8 [CELL_HEIGHT, len(cells) * CELL_WIDTH, 3]."""
    places = (divmod(cell, COLUMNS) for cell in cells)
    cut = [sheet[row * CELL_HEIGHT :, column * CELL_WIDTH :][:CELL_HEIGHT, :CELL_WIDTH] for row, column in places]
    return np.hstack(cut)


def thumbnail(image: Rgb, width: int, height: int) -> Rgb:
    """Return an image of `width` x `height` pixels fitted into a cell, from any copy of it, uint8 [H, W, 3].

    Nothing is drawn on it: the page draws the detections, so that people can hide them.
    """
    return fast_downscale(image, fit_to_cell(width, height))


def fit_to_cell(width: int, height: int) -> tuple[int, int]:
    """Return the sides in a cell of an image of `width` x `height` pixels; the page's script has the same rule."""
    gain = min(CELL_WIDTH / width, CELL_HEIGHT / height)
    return max(int(width * gain + 0.5), 1), max(int(height * gain + 0.5), 1)


def fast_downscale(image: Rgb, sides: tuple[int, int]) -> Rgb:
    """Return a copy of the image resized to `sides` (width, height).

    The result is near an average over areas, but made of halvings, which OpenCV does ten times as fast; of a very large
    image only every n-th pixel is read.
    """
    times = _times(image, sides)
    if times >= 2 * _MIN_SHRINK:
        step = times // _MIN_SHRINK
        size = image.shape[1] // step, image.shape[0] // step
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    while _times(image, sides) >= 2:
        # Only an even side is halved quickly, so the last pixel of an odd one is left out.
        height = image.shape[0] // 2
        width = image.shape[1] // 2
        even = image[: 2 * height, : 2 * width]
        image = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, sides, interpolation=cv2.INTER_LINEAR), np.uint8)


def _times(image: Rgb, sides: tuple[int, int]) -> int:
    height, width = image.shape[:2]
    return min(int(width) // sides[0], int(height) // sides[1])

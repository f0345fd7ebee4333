"""How a picture goes into the square that a model takes, and how what was found comes back.

The same sums as in training and in batch inference; here on their own, because this folder imports nothing of theirs.
"""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]

PAD_VALUE = 114
SLIVER = 32  # times longer than wide


@dataclass(frozen=True)
class Letterbox:
    """A picture of `width` x `height` pixels, resized to `inner_width` x `inner_height`, inside a square of `size`.

    `left` and `top` are the grey border before it. The sides are rounded on their own, so each axis has its own gain.
    """

    size: int
    width: int
    height: int
    inner_width: int
    inner_height: int
    left: int
    top: int

    @classmethod
    def fit(cls, picture: Rgb, size: int) -> Self:
        """Place a picture [height, width, 3] of at least one pixel."""
        height, width = picture.shape[:2]
        gain = min(size / height, size / width)
        inner_width = min(max(round(width * gain), 1), size)
        inner_height = min(max(round(height * gain), 1), size)
        # An odd pixel of padding goes behind the picture; the 0.1 is Ultralytics' way to say so.
        left, top = (round((size - inner) / 2 - 0.1) for inner in (inner_width, inner_height))
        return cls(size, width, height, inner_width, inner_height, left, top)

    def apply(self, picture: Rgb) -> Rgb:
        """Return the uint8 [size, size, 3] square that holds the picture."""
        square = np.full((self.size, self.size, 3), PAD_VALUE, np.uint8)
        inner = square[self.top : self.top + self.inner_height, self.left : self.left + self.inner_width]
        if inner.shape == picture.shape:
            inner[:] = picture
        else:
            inner[:] = cv2.resize(picture, (self.inner_width, self.inner_height), interpolation=cv2.INTER_LINEAR)
        return square

    def to_picture(self, points: Floats) -> Floats:
        """Move points [..., 2] from pixels of the square to pixels of the picture; they may lie outside it."""
        gains = np.array([self.inner_width / self.width, self.inner_height / self.height], np.float32)
        return np.asarray((points - np.array([self.left, self.top], np.float32)) / gains, np.float32)

    def clip(self, points: Floats) -> Floats:
        """Move points [..., 2] in pixels of the picture to the nearest place inside it."""
        return np.asarray(np.clip(points, 0, np.array([self.width, self.height], np.float32)), np.float32)


def center_crop(picture: Rgb, size: int) -> Rgb:
    """Return the middle of the picture, uint8 [size, size, 3], its shorter side resized to `size`.

    Pillow's smoothing resize, because classifiers were trained through it.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    short = min(width, height)
    across, down = size * width // short, size * height // short
    left, top = round((across - size) / 2), round((down - size) / 2)
    image, bilinear = Image.fromarray(picture), Image.Resampling.BILINEAR
    if max(across, down) <= SLIVER * size:
        whole = image.resize((across, down), bilinear)
        return np.asarray(whole.crop((left, top, left + size, top + size)), np.uint8)
    # Resized as a whole, a sliver would fill the memory, to be cut away.
    x, y = width / across, height / down
    centre = (left * x, top * y, (left + size) * x, (top + size) * y)
    return np.asarray(image.resize((size, size), bilinear, box=centre), np.uint8)

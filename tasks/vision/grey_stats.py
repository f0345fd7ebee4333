"""What an image looks like, measured in grey.

Model `predict` (model_repository) has this very file, as a link: it imports NumPy and OpenCV alone.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_SIDE = 16
# The longest side, in pixels, of the picture that is measured: half of what most models are trained at.
_MEASURED_SIDE = 320
_LEVELS = np.arange(256, dtype=np.float32)


class GreyStats(NamedTuple):
    """What an image looks like, with its longest side made about 320 pixels.

    `dark` and `bright` are the levels (0 to 255) that 99 % and 5 % of the pixels do not exceed. `entropy` is that of
    the levels, in bits; `sharpness` is the root mean square of the positive part of the Laplacian as a share of the
    levels' standard deviation. `thumbnail` holds 16 rows of 16 levels.
    """

    dark: int
    bright: int
    entropy: float
    sharpness: float
    thumbnail: bytes

    @property
    def brightness(self) -> float:
        """The mean of the levels, 0 to 255."""
        return float(np.frombuffer(self.thumbnail, np.uint8).mean())

    @property
    def contrast(self) -> float:
        """The span of the levels, 0 to 255."""
        return float(self.dark - self.bright)


def measure_grey(grey: NDArray[np.uint8]) -> GreyStats:
    """Return what a picture [height, width] looks like."""
    height, width = grey.shape
    # A whole factor is several times faster than a fraction.
    factor = min(max(round(max(width, height) / _MEASURED_SIDE), 1), width, height)
    across = width // factor
    down = height // factor
    small = cv2.resize(grey[: down * factor, : across * factor], (across, down), interpolation=cv2.INTER_AREA)
    shares = cv2.calcHist([small], [0], None, [256], [0, 256]).ravel() / (across * down)
    dark, bright = shares.cumsum().searchsorted((0.99, 0.05)).tolist()
    used = shares[shares > 0]
    mean = float(shares @ _LEVELS)
    contrast = max(float(shares @ (_LEVELS - mean) ** 2), 1.0) ** 0.5
    edges = cv2.norm(cv2.Laplacian(small, cv2.CV_8U), cv2.NORM_L2) / (across * down) ** 0.5
    thumbnail = cv2.resize(small, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA).tobytes()
    entropy = max(0.0, -float(used @ np.log2(used)))
    return GreyStats(dark, bright, entropy, edges / contrast, thumbnail)

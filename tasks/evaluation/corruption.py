"""Images as bad days make them: the 15 corruptions of Hendrycks and Dietterich (2019), by imagecorruptions-imaug."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from tasks.media.images import read_image, shrink_to_fit

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
STRENGTHS = (1, 3, 5)  # of the library's 1 to 5
DARKNESS = "darkness"  # of our own: light fades each evening, and the paper's images only get brighter
_LIGHT = {1: 0.7, 2: 0.55, 3: 0.4, 4: 0.3, 5: 0.2}  # of it that is left
_LEAST_SIDE = 32  # pixels, of the library
_OWN_GENERATOR = {"glass_blur", "impulse_noise"}  # they do not draw from NumPy's
_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]

Rgb = npt.NDArray[np.uint8]


class Corruption(NamedTuple):
    """One of the `CORRUPTIONS`, or `DARKNESS`, at one of the `STRENGTHS`."""

    name: str
    strength: int


ALL_CORRUPTIONS = tuple(Corruption(*each) for each in product(CORRUPTIONS, STRENGTHS))
WITH_DARKNESS = (*ALL_CORRUPTIONS, *(Corruption(DARKNESS, strength) for strength in STRENGTHS))


class CorruptedFile(NamedTuple):
    """An image file to write: `source` as a model sees it that takes `side` pixels, corrupted if it says how."""

    source: Path
    target: Path
    side: int
    corruption: Corruption | None
    seed: int


def corrupt_image(image: Rgb, corruption: Corruption, seed: int) -> Rgb:
    """Return a corrupted copy of an RGB image, of the same size; the same seed gives the same pixels."""
    if corruption.name == DARKNESS:
        return (image * _LIGHT[corruption.strength]).astype(np.uint8)
    from imagecorruptions import corrupt  # its numba takes seconds to load

    height, width = image.shape[:2]
    missing = ((0, max(0, _LEAST_SIDE - height)), (0, max(0, _LEAST_SIDE - width)), (0, 0))
    wide = np.pad(image, missing, mode="edge")
    own = {"seed": seed} if corruption.name in _OWN_GENERATOR else {}
    np.random.seed(seed)  # noqa: NPY002 - what the library draws from
    corrupted = corrupt(wide, severity=corruption.strength, corruption_name=corruption.name, **own)
    return np.ascontiguousarray(corrupted[:height, :width])


def write_corrupted(file: CorruptedFile) -> None:
    """Write the file as PNG.

    It is shrunk to the model's size before, so that a corruption is as strong for a large picture as for a small one.

    Raises:
        MediaError: The source cannot be read.
        OSError: The target cannot be written.
    """
    image = shrink_to_fit(read_image(file.source), file.side)
    if file.corruption is not None:
        image = corrupt_image(image, file.corruption, file.seed)
    if not cv2.imwrite(str(file.target), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _FAST_PNG):
        raise OSError(f"no image could be written to {file.target.parent}")


def plan_corrupted(
    sources: Sequence[Path], folder: Path, side: int, seed: int, corruptions: Sequence[Corruption] = ALL_CORRUPTIONS
) -> Iterator[CorruptedFile]:
    """Yield the clean images, then those of each of `corruptions`, in the order of `sources`."""
    for at, corruption in enumerate((None, *corruptions)):
        for number, source in enumerate(sources):
            target = folder / f"{at:02d}-{number:06d}.png"
            yield CorruptedFile(source, target, side, corruption, seed + number)

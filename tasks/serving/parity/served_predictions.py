"""The served model's side of a comparison."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.dataset.validation_sample import Sample
from tasks.media.images import read_image
from tasks.serving.pre_postprocess import found_from_served, served_input
from tasks.vision.geometry import Floats, Rgb
from tasks.vision.predictions import MASKED, FoundFolder


def find_served(
    sample: Sample, image_size: int, ask: Callable[[Rgb], Mapping[str, Floats]], folder: Path
) -> FoundFolder:
    """Keep in the new `folder` what the served model finds in each image of the sample.

    `ask` gets [image_size, image_size, 3] squares and gives the outputs of each, without their first dimension. Raises
    MediaError for an image that cannot be read, ValueError for outputs that break the contract, and what `ask` raises.
    """
    found = FoundFolder(folder)
    for image in sample.images:
        square, letterbox = served_input(read_image(image.path), sample.task, image_size)
        found.add(found_from_served(ask(square), sample.task, letterbox, masks=MASKED))
    return found

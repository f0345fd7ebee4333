"""The served model's side of a comparison."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.dataset.validation_sample import ValidationSample
from tasks.media.images import read_image
from tasks.serving.pre_postprocess import postprocess, preprocess
from tasks.vision.geometry import Floats, Rgb
from tasks.vision.predictions import MAX_STORED_MASKS, PredictionStore


def predict_served(
    sample: ValidationSample, image_size: int, ask: Callable[[Rgb], Mapping[str, Floats]], folder: Path
) -> PredictionStore:
    """Keep in the new `folder` what the served model finds in each image of the sample.

    `ask` gets [image_size, image_size, 3] squares and gives the outputs of each, without their first dimension. Raises
    MediaError for an image that cannot be read, ValueError for outputs that break the contract, and what `ask` raises.
    """
    found = PredictionStore(folder)
    for image in sample.images:
        square, letterbox = preprocess(read_image(image.path), sample.task, image_size)
        found.add(postprocess(ask(square), sample.task, letterbox, masks=MAX_STORED_MASKS))
    return found

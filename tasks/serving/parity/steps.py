"""The predictions of the served model, for the parity gate."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.dataset.validation_sample import ValidationSample
from tasks.media.images import read_image
from tasks.orchestration.step import step
from tasks.serving.grpc_client import infer_one
from tasks.serving.pre_postprocess import postprocess, preprocess
from tasks.serving.served_model import ServedModel
from tasks.vision.geometry import Floats, Rgb
from tasks.vision.predictions import MAX_STORED_MASKS, PredictionStore


@step
def predict_sample(model: ServedModel, sample: ValidationSample, folder: Path) -> PredictionStore:
    """Return the predictions of this version for the images of a sample, stored in the new `folder`.

    Raises:
        ServingError: Triton does not answer, or refuses an image.
        MediaError: An image cannot be read.
    """
    return predict_served(sample, model.image_size, lambda square: infer_one(model, square), folder)


def predict_served(
    sample: ValidationSample, image_size: int, infer: Callable[[Rgb], Mapping[str, Floats]], folder: Path
) -> PredictionStore:
    """Return the predictions for the images of a sample, stored in the new `folder`.

    `infer` takes [image_size, image_size, 3] squares and returns the outputs, without their first dimension. Raises
    MediaError for an image that cannot be read, and ValueError for outputs that break the contract.
    """
    predictions = PredictionStore(folder)
    for image in sample.images:
        square, letterbox = preprocess(read_image(image.path), sample.task, image_size)
        predictions.add(postprocess(infer(square), sample.task, letterbox, masks=MAX_STORED_MASKS))
    return predictions

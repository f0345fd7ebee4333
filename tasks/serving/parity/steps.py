"""Steps of the parity gate."""

from pathlib import Path

from tasks.dataset.validation_sample import ValidationSample
from tasks.orchestration.step import step
from tasks.serving.grpc_client import infer_one
from tasks.serving.parity.served_predictions import predict_served
from tasks.serving.served_model import ServedModel
from tasks.vision.predictions import PredictionStore


@step
def predict_sample(model: ServedModel, sample: ValidationSample, folder: Path) -> PredictionStore:
    """What this version finds in the images of a sample, kept in the new `folder`.

    Raises ServingError, and MediaError for an image that cannot be read.
    """
    return predict_served(sample, model.image_size, lambda square: infer_one(model, square), folder)

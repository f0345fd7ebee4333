"""The bytes of a picture and what is asked about it -> JSON, by way of the model that was named, inside this server."""

import json
import time
from typing import Any

import cv2
import triton_python_backend_utils as pb_utils

from .errors import PredictError, Reason
from .geometry import Floats, Letterbox, Rgb, center_crop
from .image_decoding import ImageDecoder
from .model_lookup import ServedModel, ServedModels
from .postprocess import class_scores_to_json, detections_to_json
from .request import PredictRequest


class PredictPipeline:
    """Answers one picture at a time, within `limits`, through the Triton whose HTTP endpoint is at `address`."""

    def __init__(self, limits: ImageDecoder, address: str) -> None:
        cv2.setNumThreads(1)  # the instances side by side use the cores
        self.limits, self.models = limits, ServedModels(address)

    def answer(self, data: bytes, parameters: str) -> bytes:
        """Return the JSON for a file's bytes and the request's parameters (JSON too). Raises RefusalError."""
        began = time.perf_counter()
        asked = PredictRequest.parse(parameters)
        # Looked up first: a name that nobody serves costs no decoding.
        model = self.models.find(asked.model, asked.version)
        picture = self.limits.decode(data)
        try:
            found = _found(model, picture, asked)
        except PredictError as error:
            # A roll-out may have dropped this version since it was looked up.
            again = self.models.find(asked.model, asked.version, fresh=True)
            if error.reason is not Reason.UNAVAILABLE or again == model:
                raise
            model, found = again, _found(again, picture, asked)
        height, width = picture.shape[:2]
        about = {"model": model.name, "version": model.version, "task": model.task, "width": width, "height": height}
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        return json.dumps(about | {"milliseconds": milliseconds} | found).encode()


def _found(model: ServedModel, picture: Rgb, asked: PredictRequest) -> dict[str, Any]:
    if model.task == "classify":
        return class_scores_to_json(model, _ask(model, center_crop(picture, model.image_size))["scores"], asked)
    height, width = picture.shape[:2]
    letterbox = Letterbox.fit(width, height, model.image_size)
    return detections_to_json(model, _ask(model, letterbox.apply(picture)), letterbox, asked)


def _ask(model: ServedModel, square: Rgb) -> dict[str, Floats]:
    """Return the model's outputs for one picture [S, S, 3], without the batch axis."""
    answer = pb_utils.InferenceRequest(
        model_name=model.name,
        model_version=model.version,
        requested_output_names=list(model.outputs),
        inputs=[pb_utils.Tensor("images", square[None])],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    ).exec()
    if answer.has_error():
        words = " ".join(answer.error().message().split())
        raise PredictError(
            f"expected {model.name} version {model.version} to answer, found: {words}. Send the picture again; if that "
            "does not help, see Triton's log",
            Reason.UNAVAILABLE,
        )
    return {name: pb_utils.get_output_tensor_by_name(answer, name).as_numpy()[0] for name in model.outputs}

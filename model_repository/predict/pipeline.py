"""The bytes of an image and the request's parameters -> JSON, by a model inside this server."""

import json
import time
from typing import Any, NamedTuple

import cv2
import triton_python_backend_utils as pb_utils

from .errors import PredictError, Reason
from .geometry import Floats, Letterbox, Rgb, center_crop
from .image_decoding import ImageDecoder
from .live_log import LiveLog
from .model_lookup import ServedModel, ServedModels
from .postprocess import class_scores_to_json, detections_to_json
from .request import PredictRequest


class _Answer(NamedTuple):
    """The outputs of a model for one image, and where in the model's square the image is; None of the classifier's."""

    model: ServedModel
    outputs: dict[str, Floats]
    letterbox: Letterbox | None

    def to_json(self, request: PredictRequest) -> dict[str, Any]:
        """Return what the client gets of it."""
        if self.letterbox is None:
            return class_scores_to_json(self.model, self.outputs["scores"], request)
        return detections_to_json(self.model, self.outputs, self.letterbox, request)


class PredictPipeline:
    """Predicts one image at a time, through the Triton whose HTTP endpoint is at `address`.

    A sample of the answers goes to the `live_log`, if there is one.
    """

    def __init__(self, decoder: ImageDecoder, address: str, live_log: LiveLog | None = None) -> None:
        cv2.setNumThreads(1)  # the instances side by side use the cores
        self.decoder = decoder
        self.models = ServedModels(address)
        self.live_log = live_log

    def predict(self, data: bytes, parameters: str) -> bytes:
        """Return the JSON for a file's bytes and the request's parameters (JSON, too); raise PredictError if none."""
        began = time.perf_counter()
        request = PredictRequest.parse(parameters)
        # First: a name that nobody serves costs no decoding.
        model = self.models.find(request.model, request.version)
        image = self.decoder.decode(data)
        try:
            answer = _ask(model, image)
        except PredictError as error:
            # A rollout may have dropped this version meanwhile.
            again = self.models.find(request.model, request.version, fresh=True)
            if error.reason is not Reason.UNAVAILABLE or again == model:
                raise
            model = again
            answer = _ask(model, image)
        result = answer.to_json(request)
        height, width = image.shape[:2]
        about = {"model": model.name, "version": model.version, "task": model.task, "width": width, "height": height}
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        if self.live_log is not None and self.live_log.is_due():
            self.live_log.keep(model, answer.outputs, answer.letterbox, image, data)
        return json.dumps(about | {"milliseconds": milliseconds} | result).encode()

    def close(self) -> None:
        """Let the log write what it has."""
        if self.live_log is not None:
            self.live_log.close()


def _ask(model: ServedModel, image: Rgb) -> _Answer:
    if model.task == "classify":
        return _Answer(model, _infer(model, center_crop(image, model.image_size)), None)
    height, width = image.shape[:2]
    letterbox = Letterbox.fit(width, height, model.image_size)
    return _Answer(model, _infer(model, letterbox.apply(image)), letterbox)


def _infer(model: ServedModel, square: Rgb) -> dict[str, Floats]:
    """Return the model's outputs for one square [S, S, 3], without the batch axis."""
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

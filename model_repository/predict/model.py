"""One image in, JSON out: `image` (the bytes of a JPEG or PNG file) -> `json`, by the model that the request names.

It decodes and letterboxes the image, sends it to the model inside this server, and returns the detections in pixels of
the image. Request parameters: `model`, `version`, `confidence`, `iou`. A sample of what was found goes to the live log,
if the environment names a folder (`live_log.py`). It imports nothing of ours.
"""

import json
import os
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .errors import PredictError, Reason


def _exit_with_parent(server: int) -> None:
    """End this process when the server's is gone: the backend's own watch sometimes misses a killed server."""
    while os.getppid() == server:
        time.sleep(1.0)
    os._exit(1)


class TritonPythonModel:
    """The model as Triton's Python backend drives it; each instance is a process and answers one request at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits and the address of this server's own HTTP endpoint."""
        threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
        parameters = json.loads(args["model_config"])["parameters"]
        max_bytes, max_pixels = (int(parameters[name]["string_value"]) for name in ("max_bytes", "max_pixels"))
        # OpenCV's own limit, should it read a header differently. It looks at this once, when it is imported.
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(max_pixels)
        from .image_decoding import ImageDecoder
        from .live_log import open_live_log
        from .pipeline import PredictPipeline

        address = os.environ.get("TRITON_HTTP_URL") or "127.0.0.1:8000"
        live_log = open_live_log(_warn)
        self.pipeline = PredictPipeline(ImageDecoder(max_bytes, max_pixels), address, live_log)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Let the log write what it has."""
        self.pipeline.close()

    def _respond(self, request: Any) -> object:  # noqa: ANN401  # Triton's own
        try:
            data = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)[0]
            answer = self.pipeline.predict(data, request.parameters())
        except PredictError as error:
            return _error(str(error), error.reason)
        return pb_utils.InferenceResponse([pb_utils.Tensor("json", np.array([answer], np.object_))])


def _warn(message: str) -> None:
    pb_utils.Logger.log_warn(message)


def _error(message: str, reason: Reason) -> object:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, reason)))

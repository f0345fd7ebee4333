"""The client of Triton for all threads of a worker, pinned to one version of a model.

A version that is champion no longer is served under another name for a while, and the client follows it there.
"""

import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tasks.errors import StudioError
from tasks.log_lines import current_fields
from tasks.orchestration.retries import RetryPolicy
from tasks.serving.served_model import ServedModel
from tasks.serving.task_outputs import OUTPUTS
from tasks.serving.triton_config import INPUT, read_kept_until
from tasks.serving.triton_names import list_names
from tasks.vision.geometry import Floats

REQUEST_TIMEOUT_S = 60.0
TRITON_RESTART = RetryPolicy(first_s=0.05, longest_s=1.0, total_s=180.0)  # it loads its models first
UNLOADED_AFTER_S = 5.0  # a version that a live server does not have under any name for so long is unloaded
CHECK_TIMEOUT_S = 5.0
MAX_ATTEMPTS = 3  # of a request that the server answered with an error

_AWAY = frozenset(
    f"StatusCode.{name}" for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED")
)
_UNKNOWN = "StatusCode.NOT_FOUND"
# Own arguments drop the client's: the message limits are its own, and without the last one a channel that lost its
# server looks for it again only after up to two minutes.
_CHANNEL = [
    ("grpc.max_send_message_length", triton.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", triton.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class InferenceError(StudioError):
    """Triton stays away: the run cannot continue now, and a retry continues from here."""

    transient = True


class ParameterError(StudioError):
    """The parameters do not fit this model."""


class VersionUnloadedError(StudioError):
    """Triton is up and no longer serves this version, or the time is over for which it was kept."""


class ResponseError(StudioError):
    """Triton refuses one image, or its response breaks the contract; the others are not affected."""


class TritonClient:
    """Infers with one version of a model: at most `in_flight` requests at a time, from any number of threads."""

    def __init__(self, url: str, model: ServedModel, in_flight: int) -> None:
        self.model = model
        self._url = url
        self._client = triton.InferenceServerClient(url, channel_args=_CHANNEL)
        self._outputs = [triton.InferRequestedOutput(name) for name in OUTPUTS[model.task]]
        self._slots = threading.BoundedSemaphore(in_flight)
        self._fault: StudioError | None = None
        self._entry = model.entry
        self._until = model.until
        self._request_id = str(current_fields().get("flow_run_id", ""))  # errors that Triton answers name it

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def infer(self, squares: NDArray[np.uint8]) -> dict[str, Floats]:
        """Return the outputs, by name, for [n, S, S, 3] RGB squares; the first dimension of each is n.

        Raises:
            InferenceError: The server stays away for longer than `TRITON_RESTART`.
            VersionUnloadedError: It no longer serves this version.
            ResponseError: It refuses these images, or its response breaks the contract.
        """
        request = triton.InferInput(INPUT, list(squares.shape), "UINT8")
        request.set_data_from_numpy(np.ascontiguousarray(squares))
        with self._slots:
            response = self._send(request)
        outputs = {output.name(): response.as_numpy(output.name()) for output in self._outputs}
        if any(values is None or len(values) != len(squares) for values in outputs.values()):
            raise ResponseError(
                f"expected {', '.join(outputs)} for {len(squares)} images from {self._about}, found something else; "
                "serve a model that deploy-model exported"
            )
        return {name: np.asarray(values, np.float32) for name, values in outputs.items()}

    def _send(self, request: triton.InferInput) -> Any:  # noqa: ANN401 - tritonclient has no types
        errors = 0
        pauses = TRITON_RESTART.pauses()
        since = time.monotonic()
        while self._fault is None:
            if time.time() > self._until:
                self._fault = VersionUnloadedError(
                    f"{self._about} was kept for runs that hold it, and the time for that is over"
                )
                break
            entry = self._entry
            try:
                return self._client.infer(
                    entry,
                    [request],
                    str(self.model.version),
                    outputs=self._outputs,
                    request_id=self._request_id,
                    client_timeout=REQUEST_TIMEOUT_S,
                )
            except InferenceServerException as error:
                if error.status() in _AWAY or error.status() == _UNKNOWN:
                    self._follow(entry)
                    self._give_up_after(time.monotonic() - since, error)
                else:
                    errors += 1
                    if errors == MAX_ATTEMPTS:
                        raise ResponseError(f"expected {self._about} to answer, found {_error_text(error)}") from error
            time.sleep(next(pauses))
        # One thread has waited for all: the others need not wait as long again.
        raise self._fault

    def _follow(self, entry: str) -> None:
        """Use the name that has the version now, unless another thread has found it already."""
        version = str(self.model.version)
        for name in list_names(self.model.name, self.model.version) if self._entry == entry else ():
            if self._is_ready(name):
                with suppress(InferenceServerException):  # it is unloaded again
                    config = self._client.get_model_config(name, version, as_json=True, client_timeout=CHECK_TIMEOUT_S)
                    self._until = read_kept_until(config["config"])
                    self._entry = name
                    return

    def _give_up_after(self, waited: float, error: InferenceServerException) -> None:
        if waited >= UNLOADED_AFTER_S and self._is_unloaded():
            self._fault = VersionUnloadedError(f"{self._about} is served no longer")
        elif waited >= TRITON_RESTART.total_s:
            self._fault = InferenceError(
                f"expected Triton at {self._url} to answer for {self._about} within {TRITON_RESTART.total_s:g} s, "
                f"found {_error_text(error)}. See whether Triton is up (`studio status`, `studio up`); then retry this "
                "run: it goes on from here"
            )

    def _is_unloaded(self) -> bool:
        """Whether the server is up without this version."""
        try:
            live = bool(self._client.is_server_live(client_timeout=CHECK_TIMEOUT_S))
        except InferenceServerException:
            return False
        return live and not any(map(self._is_ready, list_names(self.model.name, self.model.version)))

    def _is_ready(self, entry: str) -> bool:
        try:
            return bool(self._client.is_model_ready(entry, str(self.model.version), client_timeout=CHECK_TIMEOUT_S))
        except InferenceServerException:
            return False

    @property
    def _about(self) -> str:
        return f"{self.model.name} version {self.model.version}"


def _error_text(error: InferenceServerException) -> str:
    return f"{error.status()}: {' '.join(str(error.message()).split())}"

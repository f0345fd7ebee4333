"""The client of all Tritons for all threads of a worker, pinned to one version of a model.

A version that is champion no longer is served under another name for a while, and the client follows it there. Each
request goes to the server that has fewest of them; what a server does not answer, another one gets.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
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
REST = RetryPolicy(first_s=0.05, longest_s=5.0)  # of a server that did not answer, while others do
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


class _Server:
    """One Triton as a client sees it: the name under which it has the version, and whether it can be asked.

    `busy` counts the requests that it has now. Until `rests_until` (monotonic) others are asked first; one that is
    `doubted` has to say that it has the version before it gets a request. Both concern several servers alone.
    """

    def __init__(self, url: str, model: ServedModel, *, doubted: bool) -> None:
        self.url = url
        self.entry = model.entry
        self.until = model.until
        self.busy = 0
        self.rests_until = 0.0
        self.doubted = doubted
        self._model = model
        self._version = str(model.version)
        self._request_id = str(current_fields().get("flow_run_id", ""))  # errors that Triton answers name it
        self._failures = 0
        self.client = triton.InferenceServerClient(url, channel_args=_CHANNEL)

    def infer(self, request: triton.InferInput, outputs: Sequence[triton.InferRequestedOutput]) -> Any:  # noqa: ANN401 - tritonclient has no types
        """Return the answer to a request."""
        response = self.client.infer(
            self.entry,
            [request],
            self._version,
            outputs=outputs,
            request_id=self._request_id,
            client_timeout=REQUEST_TIMEOUT_S,
        )
        self._failures = 0
        return response

    def rest(self) -> None:
        """Leave it alone for a moment, for longer the more often in a row it has failed."""
        self.doubted = True
        self.rests_until = time.monotonic() + next(islice(REST.pauses(), self._failures, None))
        self._failures += 1

    @property
    def is_over(self) -> bool:
        """Whether the time is over for which it keeps the version."""
        return time.time() > self.until

    @property
    def is_resting(self) -> bool:
        """Whether others are asked first."""
        return self.doubted and self.rests_until > time.monotonic()

    def find_version(self) -> bool:
        """Use the name that has the version now; returns whether one does."""
        for name in list_names(self._model.name, self._model.version):
            if self._is_ready(name):
                with suppress(InferenceServerException):  # it is unloaded again
                    config = self.client.get_model_config(
                        name, self._version, as_json=True, client_timeout=CHECK_TIMEOUT_S
                    )
                    self.until = read_kept_until(config["config"])
                    self.entry = name
                    return True
        return False

    def is_live(self) -> bool:
        """Return whether it answers."""
        try:
            return bool(self.client.is_server_live(client_timeout=CHECK_TIMEOUT_S))
        except InferenceServerException:
            return False

    def has_version(self) -> bool:
        """Return whether it has the version under any name, and for now."""
        return not self.is_over and any(map(self._is_ready, list_names(self._model.name, self._model.version)))

    def _is_ready(self, entry: str) -> bool:
        try:
            return bool(self.client.is_model_ready(entry, self._version, client_timeout=CHECK_TIMEOUT_S))
        except InferenceServerException:
            return False


class TritonClient:
    """Infers with one version of a model: at most `in_flight` requests at a time on each server, from any threads.

    `urls` are the servers' gRPC addresses (host:port). `in_flight` is then the sum for all servers.
    """

    def __init__(self, urls: Sequence[str], model: ServedModel, in_flight: int) -> None:
        self.model = model
        self.in_flight = in_flight * len(urls)
        self._each_in_flight = in_flight
        self._servers = [_Server(url, model, doubted=len(urls) > 1) for url in urls]
        self._outputs = [triton.InferRequestedOutput(name) for name in OUTPUTS[model.task]]
        self._changed = threading.Condition()
        self._fault: StudioError | None = None

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.client.close()

    def infer(self, squares: NDArray[np.uint8]) -> dict[str, Floats]:
        """Return the outputs, by name, for [n, S, S, 3] RGB squares; the first dimension of each is n.

        Raises:
            InferenceError: All servers stay away for longer than `TRITON_RESTART`.
            VersionUnloadedError: None serves this version any more.
            ResponseError: A server refuses these images, or its response breaks the contract.
        """
        request = triton.InferInput(INPUT, list(squares.shape), "UINT8")
        request.set_data_from_numpy(np.ascontiguousarray(squares))
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
            with self._slot() as server:
                if all(each.is_over for each in self._servers):
                    self._fault = VersionUnloadedError(
                        f"{self._about} was kept for runs that hold it, and the time for that is over"
                    )
                    break
                found = "no server that has it"
                entry = server.entry
                try:
                    if self._can_be_asked(server):
                        return server.infer(request, self._outputs)
                except InferenceServerException as error:
                    found = _error_text(error)
                    if error.status() in _AWAY or error.status() == _UNKNOWN:
                        self._avoid(server, entry)
                    else:
                        errors += 1
                        if errors == MAX_ATTEMPTS:
                            raise ResponseError(f"expected {self._about} to answer, found {found}") from error
            if not self._has_others(server):
                self._give_up_after(time.monotonic() - since, found)
                time.sleep(next(pauses))
        # One thread has waited for all: the others need not wait as long again.
        raise self._fault

    @contextmanager
    def _slot(self) -> Iterator[_Server]:
        """Wait for room at the server that is best to ask, and take it in the block."""
        with self._changed:
            while not (free := self._free_servers()):
                self._changed.wait(1.0)
            server = free[0]
            server.busy += 1
            if server.doubted:
                server.rests_until = time.monotonic() + 4 * CHECK_TIMEOUT_S  # one thread asks it
        try:
            yield server
        finally:
            with self._changed:
                server.busy -= 1
                self._changed.notify()

    def _free_servers(self) -> list[_Server]:
        """The servers with room, best first; those that rest only if all do."""
        now = time.monotonic()
        awake = [server for server in self._servers if server.rests_until <= now] or self._servers
        free = [server for server in awake if server.busy < self._each_in_flight]
        return sorted(free, key=lambda server: (max(server.rests_until, now), server.busy))

    def _can_be_asked(self, server: _Server) -> bool:
        if not server.doubted and not server.is_over:
            return True
        # One that hangs takes its time for each question, so the first is whether it answers.
        if not server.is_live() or not server.find_version() or server.is_over:
            server.rest()
            return False
        server.doubted = False
        server.rests_until = 0.0
        return True

    def _avoid(self, server: _Server, entry: str) -> None:
        """Look at another server, or under another name, unless another thread has found that already."""
        if len(self._servers) > 1:
            if not server.is_resting:  # several of its requests have failed at one time
                server.rest()
        elif server.entry == entry:
            server.find_version()

    def _has_others(self, server: _Server) -> bool:
        now = time.monotonic()
        return any(other.rests_until <= now for other in self._servers if other is not server)

    def _give_up_after(self, waited: float, found: str) -> None:
        if waited >= UNLOADED_AFTER_S and self._is_unloaded():
            self._fault = VersionUnloadedError(f"{self._about} is served no longer")
        elif waited >= TRITON_RESTART.total_s:
            urls = " or ".join(server.url for server in self._servers)
            self._fault = InferenceError(
                f"expected Triton at {urls} to answer for {self._about} within {TRITON_RESTART.total_s:g} s, "
                f"found {found}. See whether Triton is up (`studio status`, `studio up`); then retry this "
                "run: it goes on from here"
            )

    def _is_unloaded(self) -> bool:
        """Whether a server is up, and none has this version."""
        live = [server for server in self._servers if server.is_live()]
        return bool(live) and not any(server.has_version() for server in live)

    @property
    def _about(self) -> str:
        return f"{self.model.name} version {self.model.version}"


def _error_text(error: InferenceServerException) -> str:
    return f"{error.status()}: {' '.join(str(error.message()).split())}"

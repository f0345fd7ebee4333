"""One client and several Tritons: who is asked, and what happens when one goes; real ones: tests/flows.

The servers are real gRPC servers of Triton's protocol that answer without a model: a real one takes seconds to start,
and does not hang when it is told to.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tasks.inference import triton_client
from tasks.inference.triton_client import InferenceError, ResponseError, TritonClient, VersionUnloadedError
from tasks.orchestration.retries import RetryPolicy
from tasks.serving.served_model import ServedModel

MODEL = ServedModel(name="m", version=3, task="detect", image_size=8, class_names=("a",), run_id="r")
PICTURES = np.zeros((1, 8, 8, 3), np.uint8)


class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A Triton with version 3 of m under `entry`; None: under no name. `fault` is the status of each answer, if any."""

    def __init__(self, entry: str | None = "m") -> None:
        self.entry = entry
        self.kept_until = ""
        self.answers = 0
        self.most = self.now = 0
        self.pause_s = self.silence_s = 0.0
        self.fault: grpc.StatusCode | None = None
        self._lock = threading.Lock()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - Triton's own names
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.pause_s)
        with self._lock:
            self.now -= 1
        if self.fault:
            context.abort(self.fault, "as the test wants it")
        if request.model_name != self.entry:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        self.answers += 1
        answer = service_pb2.ModelInferResponse(model_name=self.entry, model_version="3")
        answer.outputs.add(name="detections", datatype="FP32", shape=[1, 300, 6])
        answer.raw_output_contents.append(np.zeros((1, 300, 6), np.float32).tobytes())
        return answer

    def ModelReady(self, request: Any, _: Any) -> Any:  # noqa: N802
        time.sleep(self.silence_s)
        return service_pb2.ModelReadyResponse(ready=request.name == self.entry)

    def ModelConfig(self, request: Any, _: Any) -> Any:  # noqa: N802
        answer = service_pb2.ModelConfigResponse(config={"name": request.name})
        if self.kept_until:
            answer.config.parameters["kept_until"].string_value = self.kept_until
        return answer

    def ServerLive(self, *_: Any) -> Any:  # noqa: N802
        time.sleep(self.silence_s)
        return service_pb2.ServerLiveResponse(live=True)


class Server:
    """A stand-in at work; `kill` and `start` are on the same port."""

    def __init__(self, entry: str | None = "m") -> None:
        self.triton = StandIn(entry)
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(32))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.triton, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def kill(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    servers = Server(), Server()
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_client, "TRITON_RESTART", RetryPolicy(first_s=0.05, longest_s=0.2, total_s=2.0))
    monkeypatch.setattr(triton_client, "REST", RetryPolicy(first_s=0.05, longest_s=0.2))
    monkeypatch.setattr(triton_client, "UNLOADED_AFTER_S", 0.5)


@contextmanager
def client_of(*servers: Server, in_flight: int = 2) -> Iterator[TritonClient]:
    client = TritonClient([f"127.0.0.1:{server.port}" for server in servers], MODEL, in_flight)
    yield client
    client.close()


def ask(client: TritonClient, count: int, threads: int = 8) -> Counter[str]:
    """What became of so many requests."""

    def one(_: int) -> str:
        try:
            return f"{len(client.infer(PICTURES)['detections'])} image"
        except (InferenceError, ResponseError, VersionUnloadedError) as error:
            return type(error).__name__

    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(one, range(count)))


def test_requests_are_spread_and_bounded_on_each_server(pair: tuple[Server, Server]) -> None:
    for server in pair:
        server.triton.pause_s = 0.01
    with client_of(*pair, in_flight=2) as client:
        assert client.in_flight == 4
        assert ask(client, 80) == {"1 image": 80}
    assert [server.triton.most for server in pair] == [2, 2]
    assert min(server.triton.answers for server in pair) > 20


def test_when_one_dies_the_other_answers_and_it_is_asked_again_when_it_is_back(pair: tuple[Server, Server]) -> None:
    first, second = pair
    with client_of(*pair) as client:
        ask(client, 20)
        second.kill()
        began = time.monotonic()
        assert ask(client, 40) == {"1 image": 40}
        assert time.monotonic() - began < 2
        before = second.triton.answers
        second.start()
        deadline = time.monotonic() + 10
        while second.triton.answers == before and time.monotonic() < deadline:
            assert ask(client, 20) == {"1 image": 20}
    assert second.triton.answers > before
    assert first.triton.answers > 0


def test_a_server_that_lacks_the_version_is_left_out(pair: tuple[Server, Server]) -> None:
    """As while a candidate is tried on the first server alone."""
    pair[0].triton.entry = None
    with client_of(*pair) as client:
        assert ask(client, 20) == {"1 image": 20}
    assert [server.triton.answers for server in pair] == [0, 20]


def test_the_version_is_found_under_another_name_on_one_server(pair: tuple[Server, Server]) -> None:
    """As in the middle of a rollout: one has it as its champion, the other aside."""
    with client_of(*pair) as client:
        ask(client, 20)
        pair[0].triton.entry = "m.3"
        for server in pair:
            server.triton.pause_s = 0.02
        before = [server.triton.answers for server in pair]
        assert ask(client, 40) == {"1 image": 40}
        assert all(server.triton.answers > answers for server, answers in zip(pair, before, strict=True))


def test_a_version_that_one_server_keeps_no_longer_is_used_on_the_other(pair: tuple[Server, Server]) -> None:
    """As when one was away during the rollout that has put it aside on the other."""
    pair[0].triton.entry, pair[0].triton.kept_until = "m.3", "1"
    with client_of(*pair) as client:
        assert ask(client, 20) == {"1 image": 20}
        assert pair[0].triton.answers == 0
        pair[1].triton.entry, pair[1].triton.kept_until = "m.3", "1"
        assert ask(client, 4) == {"VersionUnloadedError": 4}


def test_a_server_that_hangs_costs_a_request_its_timeout_and_is_asked_no_more(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_client, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(triton_client, "REST", RetryPolicy(first_s=5.0))
    with client_of(*pair) as client:
        ask(client, 20)
        pair[0].triton.pause_s = 2.0
        began = time.monotonic()
        assert ask(client, 100) == {"1 image": 100}
        assert time.monotonic() - began < 2


def test_a_server_that_hangs_holds_up_who_asks_whether_it_is_back_only_once(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each name that the version may have, nor with a further question."""
    monkeypatch.setattr(triton_client, "CHECK_TIMEOUT_S", 1.0)
    pair[0].triton.silence_s = 3.0
    with client_of(*pair) as client:
        for _ in range(3):
            began = time.monotonic()
            client.infer(PICTURES)
            assert time.monotonic() - began < 1.8


@pytest.mark.parametrize("count", [1, 2])
def test_a_version_that_no_server_has_any_more_is_unloaded(pair: tuple[Server, Server], count: int) -> None:
    with client_of(*pair[:count]) as client:
        ask(client, 4)
        for server in pair:
            server.triton.entry = None
        assert ask(client, 4) == {"VersionUnloadedError": 4}


@pytest.mark.parametrize("count", [1, 2])
def test_if_all_stay_away_the_run_is_told_where_they_should_be(pair: tuple[Server, Server], count: int) -> None:
    with client_of(*pair[:count]) as client:
        ask(client, 4)
        for server in pair[:count]:
            server.kill()
        with pytest.raises(InferenceError, match=" or ".join(f"127.0.0.1:{server.port}" for server in pair[:count])):
            client.infer(PICTURES)


def test_a_server_that_refuses_the_images_is_not_left_out(pair: tuple[Server, Server]) -> None:
    for server in pair:
        server.triton.fault = grpc.StatusCode.INVALID_ARGUMENT
    with client_of(*pair) as client:
        with pytest.raises(ResponseError, match="as the test wants it"):
            client.infer(PICTURES)
        for server in pair:
            server.triton.fault = None
        assert ask(client, 20) == {"1 image": 20}

"""Ready tensors to Triton: in the request, as a run sends them, or in Triton's system shared memory."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import tritonclient.grpc as triton
from tritonclient.utils import shared_memory

from tasks.serving.http_client import KEY_HEADER
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import INPUT
from tasks.settings import Settings
from tasks.vision.geometry import Rgb
from tests.benchmarks.meter import Done, Work

IN_FLIGHT = 4
# Triton's gRPC endpoint wants this before the name of the header that opens a restricted protocol.
PREFIX = "triton-grpc-protocol-"

# Makes the input of a thread ready for a tensor.
Fill = Callable[[Rgb], Any]


def plain(model: ServedModel, squares: list[Rgb], seconds: float) -> Work:
    """The tensor travels in the request."""

    def filler(_client: Any, _left: ExitStack) -> Fill:
        def fill(square: Rgb) -> Any:
            request = triton.InferInput(INPUT, [1, *square.shape], "UINT8")
            request.set_data_from_numpy(square[None])
            return request

        return fill

    return _asking(model, squares, seconds, filler)


def through_shared_memory(model: ServedModel, squares: list[Rgb], seconds: float) -> Work:
    """The tensor is copied into a region of its thread, and the request names that."""
    headers = {f"{PREFIX}{KEY_HEADER}": Settings().studio_triton_key.get_secret_value()}
    size = squares[0].nbytes

    def filler(client: Any, left: ExitStack) -> Fill:
        name = f"bench-{uuid4().hex[:8]}"
        region = shared_memory.create_shared_memory_region(name, f"/{name}", size)
        left.callback(shared_memory.destroy_shared_memory_region, region)
        client.register_system_shared_memory(name, f"/{name}", size, headers=headers)
        left.callback(client.unregister_system_shared_memory, name, headers=headers)
        request = triton.InferInput(INPUT, [1, *squares[0].shape], "UINT8")
        request.set_shared_memory(name, size)

        def fill(square: Rgb) -> Any:
            shared_memory.set_shared_memory_region(region, [square[None]])
            return request

        return fill

    return _asking(model, squares, seconds, filler)


def _asking(model: ServedModel, squares: list[Rgb], seconds: float, filler: Callable[[Any, ExitStack], Fill]) -> Work:
    def work() -> Done:
        with triton.InferenceServerClient(Settings().triton_grpc_url) as client, ExitStack() as left:
            fills = [filler(client, left) for _ in range(IN_FLIGHT)]
            outputs = [triton.InferRequestedOutput("detections")]
            until = time.perf_counter() + seconds

            def ask(first: int) -> int:
                done = 0
                while time.perf_counter() < until:
                    request = fills[first](squares[(first + done) % len(squares)])
                    answer = client.infer(model.name, [request], str(model.version), outputs=outputs)
                    assert answer.as_numpy("detections").shape[0] == 1
                    done += 1
                return done

            with ThreadPoolExecutor(IN_FLIGHT) as pool:
                return Done(sum(pool.map(ask, range(IN_FLIGHT))))

    return work

"""What runs a graph on a CPU: OpenVINO, or ONNX Runtime if OpenVINO is not installed."""

import functools
import json
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Outputs = dict[str, NDArray[np.float32]]
# Takes the index of a request in its batch, and its outputs or the reason why there are none.
OnResult = Callable[[int, Outputs | Exception], None]

# OpenVINO's names of the arithmetic that a CPU has.
_CAPABILITY = {"bf16": "BF16", "f16": "FP16", "int8": "INT8", "int8-mixed": "INT8"}


class Runtime(Protocol):
    """What runs the graph."""

    description: str
    shape: list[Any]
    fallback: str  # why it runs in f32 and not in the precision that was asked for; empty if it does not

    def infer(self, batch: Sequence[Images], on_result: OnResult) -> None:
        """Call `on_result` once for each request of a batch, in any thread; returns if there is room for more."""
        ...

    def close(self) -> None:
        """Return when every request is answered."""
        ...


class OnnxRuntime:
    """ONNX Runtime: the requests of a batch, one after the other."""

    def __init__(
        self, graph: Path, outputs: Collection[str], threads: int, provider: str = "CPUExecutionProvider"
    ) -> None:
        import onnxruntime

        self._graph, self._threads, self.provider = graph, threads, provider
        self.fallback = ""
        self.session = self.open_session()
        self.provider = self.session.get_providers()[0]
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {self.provider}, f32"
        self.shape = self.session.get_inputs()[0].shape
        _output_indices([{output.name} for output in self.session.get_outputs()], outputs)
        self.outputs = list(outputs)

    def infer(self, batch: Sequence[Images], on_result: OnResult) -> None:
        """Answer a batch before it returns."""
        for index, images in enumerate(batch):
            on_result(index, self._run(images))

    def close(self) -> None:
        """Nothing waits here."""

    def open_session(self) -> Any:  # noqa: ANN401  # an onnxruntime.InferenceSession, which has no types
        """Return one more session of the graph, with memory of its own."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        providers = dict.fromkeys((self.provider, "CPUExecutionProvider"))
        return onnxruntime.InferenceSession(self._graph, options, providers=list(providers))

    def run_session(self, session: Any, images: Images) -> Outputs | Exception:  # noqa: ANN401
        """Return the outputs for images [N,S,S,3], or the error."""
        try:
            return dict(zip(self.outputs, session.run(self.outputs, {"images": images}), strict=True))
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes this request's error
            return error

    def _run(self, images: Images) -> Outputs | Exception:
        return self.run_session(self.session, images)


class OpenVino:
    """OpenVINO on the CPU: image by image in its streams, a thread for each: batches gain nothing there.

    A request is answered when it is done, not when its batch is: else streams would be idle at the end of each.
    """

    def __init__(self, graph: Path, outputs: Collection[str], precision: str, threads: int) -> None:
        import openvino

        core = openvino.Core()
        self.fallback = ""
        if precision != "f32" and _CAPABILITY[precision] not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            self.fallback = f"this CPU has no {precision} arithmetic, or would emulate it slowly"
            precision = "f32"
        model = core.read_model(graph)
        self.shape = list(json.loads(str(model.input("images").partial_shape.to_string().replace("?", "-1"))))
        self.outputs = list(outputs)
        self.output_indices = _output_indices([set(output.names) for output in model.outputs], outputs)
        model.reshape({"images": [1, *self.shape[1:]]})
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads}
        hint = "f32" if precision.startswith("int8") else precision  # of what a graph with INT8 layers leaves in floats
        compiled = core.compile_model(model, "CPU", options | {"INFERENCE_PRECISION_HINT": hint})
        streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self.pool = ThreadPoolExecutor(streams)
        self.idle_requests = [compiled.create_infer_request() for _ in range(streams)]
        # One image waits, so that a stream that is done goes on at once; more wait in Triton's queue.
        self.slots = threading.Semaphore(streams + 1)
        self.description = f"OpenVINO {openvino.__version__}, CPU, {precision}, {threads} threads, {streams} streams"

    def infer(self, batch: Sequence[Images], on_result: OnResult) -> None:
        """Answer each request when its last image is done."""
        for number, images in enumerate(batch):
            request = _RequestAccumulator(self.outputs, len(images), functools.partial(on_result, number))
            for index in range(len(images)):
                self.slots.acquire()
                self.pool.submit(self._run, images[index : index + 1], functools.partial(request.add, index))

    def _run(self, image: Images, on_result: Callable[[list[Any] | Exception], None]) -> None:
        request = self.idle_requests.pop()
        result: list[Any] | Exception
        try:
            request.start_async({"images": image}, share_inputs=True)
            request.wait()
            result = [request.get_output_tensor(index).data.copy() for index in self.output_indices]
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes this request's error
            result = error
        finally:
            self.idle_requests.append(request)
            self.slots.release()
        on_result(result)

    def close(self) -> None:
        """Return when every request is answered."""
        self.pool.shutdown()


class _RequestAccumulator:
    """The results of the images of one request, which come in any order."""

    def __init__(self, outputs: Sequence[str], count: int, on_result: Callable[[Outputs | Exception], None]) -> None:
        self._outputs = outputs
        self._on_result = on_result
        self._lock = threading.Lock()
        self._results: list[list[Any] | Exception | None] = [None] * count

    def add(self, index: int, result: list[Any] | Exception) -> None:
        with self._lock:
            self._results[index] = result
            complete = None not in self._results
        if complete:
            self._on_result(self._concatenated())

    def _concatenated(self) -> Outputs | Exception:
        arrays = [result for result in self._results if isinstance(result, list)]
        if len(arrays) < len(self._results):
            return next(result for result in self._results if isinstance(result, Exception))
        if len(arrays) == 1:
            return dict(zip(self._outputs, arrays[0], strict=True))
        return {name: np.concatenate(parts) for name, *parts in zip(self._outputs, *arrays, strict=True)}


def _output_indices(graph_outputs: Sequence[set[str]], expected: Collection[str]) -> list[int]:
    """Index of each expected output among those of the graph, which each may have several names."""
    indices = [[index for index, names in enumerate(graph_outputs) if name in names] for name in expected]
    if len(graph_outputs) != len(expected) or not all(indices):
        names = sorted(min(names, default="?") for names in graph_outputs)
        raise ValueError(f"expected the outputs {sorted(expected)}, found {names}")
    return [first for first, *_ in indices]

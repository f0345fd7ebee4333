"""A YOLO graph in Triton's Python backend: `images` uint8 [N,S,S,3] RGB -> the float32 outputs of its task.

The graph beside this file does the work; this file chooses the runtime and answers each request of a batch on its own.
It imports nothing of ours but the files beside it: they are copied into the repository with every version.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .cuda_runtime import open_cuda_runtime
from .runtimes import Images, OnnxRuntime, OpenVino, Outputs, Runtime
from .task_outputs import OUTPUTS, output_shapes

GRAPH = "model.onnx"
GRAPHS = {
    "int8": "model.int8.onnx",
    "int8-mixed": "model.int8-mixed.onnx",
}  # of precisions whose numbers are in a graph of their own


def choose_runtime(
    graph: Path, outputs: Collection[str], precision: str, threads: int, *, max_batch_size: int, gpu: bool
) -> Runtime:
    """Return CUDA if ONNX Runtime has it and Triton sees a GPU, else OpenVINO, else ONNX Runtime on the CPU."""
    runtime = open_cuda_runtime(graph, outputs, threads, max_batch_size) if gpu else None
    if gpu and runtime is None:
        pb_utils.Logger.log_warn("there is a GPU, but no ONNX Runtime with CUDA (onnxruntime-gpu): the CPU is used")
    if runtime is None:
        try:
            return OpenVino(graph, outputs, precision, threads)
        except ImportError:
            runtime = OnnxRuntime(graph, outputs, threads)
    if precision not in {"f32", *GRAPHS}:
        runtime.fallback = "ONNX Runtime runs the graph as it is"
    return runtime


def _exit_with_parent(server: int) -> None:
    """End this process when the server's is gone: the backend's own watch sometimes misses a killed server."""
    while os.getppid() == server:
        time.sleep(1.0)
    os._exit(1)


class TritonPythonModel:
    """The model as Triton's Python backend drives it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph and answer one grey image: a version that cannot do that never becomes ready."""
        threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
        version = args["model_version"]
        try:
            self._load(args, json.loads(args["model_config"]), version)
        except Exception as error:
            raise pb_utils.TritonModelException(f"version {version}: {error}") from error
        pb_utils.Logger.log_info(f"{args['model_name']} version {version}: {self.runtime.description}")

    def _load(self, args: dict[str, str], config: dict[str, Any], version: str) -> None:
        precision = _parameter(config, f"precision.{version}")
        graph = Path(args["model_repository"]) / version / GRAPHS.get(precision, GRAPH)
        _check_digest(graph, _parameter(config, f"digest.{version}"))
        task = _parameter(config, f"task.{version}")
        if task not in OUTPUTS:
            raise ValueError(f"expected a task of {', '.join(OUTPUTS)}, found {task!r}: deploy that version again")
        cores = len(os.sched_getaffinity(0)) // int(config["instance_group"][0].get("count", 1))
        threads = int(_parameter(config, "intra_op_thread_count") or 0) or max(1, cores)
        gpu = args["model_instance_kind"] == "GPU"
        try:
            self.runtime = choose_runtime(
                graph, OUTPUTS[task], precision, threads, max_batch_size=int(config["max_batch_size"]), gpu=gpu
            )
        except Exception as error:
            raise ValueError(f"its {graph.name} does not load as a graph of task {task}: {error}") from error
        self._check_precision(precision, exact=_parameter(config, "exact_precision") == "true")
        self.side = int(_parameter(config, f"image_size.{version}"))
        if list(self.runtime.shape[1:]) != [self.side, self.side, 3]:
            raise ValueError(
                f"the config says images of {self.side} x {self.side} x 3, the graph takes {self.runtime.shape}: "
                "deploy that version again"
            )
        results: SimpleQueue[Outputs | Exception] = SimpleQueue()
        grey = np.full((1, self.side, self.side, 3), 114, np.uint8)
        self.runtime.infer([grey], lambda _, result: results.put(result))
        result = results.get()
        if isinstance(result, Exception):
            raise RuntimeError(f"its graph does not answer a grey image: {result}") from result  # noqa: TRY004
        _check_outputs(result, task, self.side, json.loads(_parameter(config, f"class_names.{version}")))

    def _check_precision(self, precision: str, *, exact: bool) -> None:
        """Say that it runs in f32 instead, or refuse to if it is to run in this very precision."""
        if not self.runtime.fallback:
            return
        if exact:
            raise ValueError(f"it would run in f32 and not in {precision}: {self.runtime.fallback}")
        pb_utils.Logger.log_warn(f"f32 is used and not {precision}: {self.runtime.fallback}")

    def execute(self, requests: list[Any]) -> None:
        """Take a batch: a request without images or of a wrong shape gets its own error, the others their outputs.

        It returns when there is room for the next batch, which may be before this one is answered.
        """
        waiting: dict[int, Any] = {}  # whoever takes a request out answers it, so each is answered once
        batch: list[Images] = []

        def on_result(index: int, result: Outputs | Exception) -> None:
            if request := waiting.pop(index, None):
                _respond(request, result)

        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
            if error := self._input_error(images):
                _respond(request, error)
            else:
                waiting[len(batch)] = request
                batch.append(images)
        try:
            self.runtime.infer(batch, on_result)
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes the unanswered requests' error
            pb_utils.Logger.log_error(f"a batch of {len(batch)} requests failed: {error!r}")
            for index in range(len(batch)):
                on_result(index, error)

    def finalize(self) -> None:
        """Answer what was taken."""
        self.runtime.close()

    def _input_error(self, images: Images) -> Exception | None:
        expected = (self.side, self.side, 3)
        if len(images) == 0:
            return ValueError("expected at least one image in a request, found none: send images, or no request")
        if images.shape[1:] == expected and images.dtype == np.uint8:
            return None
        return ValueError(
            f"expected images of {self.side} x {self.side} pixels, uint8 [N,{self.side},{self.side},3] RGB, found "
            f"{images.dtype} {list(images.shape)}: letterbox each image to the model's image size"
        )


def _parameter(config: dict[str, Any], key: str) -> str:
    value: str = config.get("parameters", {}).get(key, {}).get("string_value", "")
    return value


def _check_digest(graph: Path, expected: str) -> None:
    """Refuse a graph that is missing, or is not the one that was deployed."""
    if not graph.is_file():
        raise ValueError(f"it has no {graph.name}: deploy that version again")
    found = hashlib.sha256(graph.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"the config says a {graph.name} of SHA-256 {expected}, found {found}: somebody changed a version "
            "directory, which is written once. Train or register the model again, and deploy the new version"
        )


def _check_outputs(outputs: Outputs, task: str, side: int, class_names: list[str]) -> None:
    """Refuse a graph whose outputs for one image have not the shapes of its task."""
    sizes = {"S/4": side // 4, "C": len(class_names)}
    for name, shape in OUTPUTS[task].items():
        found = outputs[name].shape
        if len(found) == 1 + len(shape):
            for size, number in zip(shape, found[1:], strict=True):
                if isinstance(size, str):
                    sizes.setdefault(size, number)
        expected = (1, *output_shapes(task, sizes)[name])
        if found != expected or outputs[name].dtype != np.float32:
            words = " x ".join(map(str, expected))
            raise ValueError(f"task {task}: expected {name} as {words} float32, found {found} {outputs[name].dtype}")


def _respond(request: Any, result: Outputs | Exception) -> None:  # noqa: ANN401  # Triton's own
    try:
        response = _response(request, result)
    except Exception as error:  # noqa: BLE001  # in a thread nobody would hear of it, and the client wait for ever
        response = _response(request, error)
    request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _response(request: Any, result: Outputs | Exception) -> Any:  # noqa: ANN401  # Triton's own
    if isinstance(result, Exception):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(result)))
    names = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, result[name]) for name in names if name in result])

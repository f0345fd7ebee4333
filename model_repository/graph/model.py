"""A YOLO graph in Triton's Python backend: `images` uint8 [N,S,S,3] RGB -> the float32 outputs of its task.

The graph beside this file does the work; this file picks the runtime, keeps all cores busy and answers each request of
a batch on its own. It imports nothing of ours: it is copied into the repository with every version.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Outputs = dict[str, NDArray[np.float32]]

# Sizes of each output after N. Letters stand for S the image size, C the number of classes, M of prototypes and K of
# keypoints: one letter is one number throughout a graph.
_DETECTIONS = {"detections": (300, 6)}
OUTPUTS: dict[str, dict[str, tuple[int | str, ...]]] = {
    "detect": {**_DETECTIONS},
    "segment": {**_DETECTIONS, "coefficients": (300, "M"), "prototypes": ("M", "S/4", "S/4")},
    "pose": {**_DETECTIONS, "keypoints": (300, "K", 3)},
    "obb": {**_DETECTIONS, "rotated": (300, 5)},
    "classify": {"scores": ("C",)},
}

_CAPABILITY = {"bf16": "BF16", "f16": "FP16"}  # OpenVINO's names of what a CPU computes itself


class Runtime(Protocol):
    """What runs the graph. `answer(batch)[i]` belongs to `batch[i]`, or is the reason why there is no answer."""

    description: str
    shape: list[Any]

    def answer(self, batch: Sequence[Images]) -> list[Outputs | Exception]:
        """Answer every request of a batch."""
        ...


class OnnxRuntime:
    """ONNX Runtime: requests of a batch joined into one run on a GPU, one after the other on a CPU."""

    def __init__(self, graph: Path, outputs: Collection[str], provider: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = dict.fromkeys((provider, "CPUExecutionProvider"))
        self.session = onnxruntime.InferenceSession(graph, options, providers=list(providers))
        self.provider = self.session.get_providers()[0]
        self.joins = self.provider != "CPUExecutionProvider"
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {self.provider}, f32"
        self.shape = self.session.get_inputs()[0].shape
        _places([{output.name} for output in self.session.get_outputs()], outputs)
        self.outputs = list(outputs)

    def answer(self, batch: Sequence[Images]) -> list[Outputs | Exception]:
        """Answer every request of a batch."""
        if self.joins and len(batch) > 1:
            joined = self._run(batch)
            if not isinstance(joined, Exception):
                ends = np.cumsum([len(images) for images in batch])[:-1]
                parts = {name: np.split(values, ends) for name, values in joined.items()}
                return [{name: values[index] for name, values in parts.items()} for index in range(len(batch))]
        # Also where the joined run failed: only the request at fault is to fail.
        return [self._run([images]) for images in batch]

    def _run(self, batch: Sequence[Images]) -> Outputs | Exception:
        try:
            images = batch[0] if len(batch) == 1 else np.concatenate(batch)
            return dict(zip(self.outputs, self.session.run(self.outputs, {"images": images}), strict=True))
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes this request's error
            return error


class OpenVino:
    """OpenVINO on the CPU: image by image through a queue of streams: batches gain nothing there."""

    def __init__(self, graph: Path, outputs: Collection[str], precision: str, threads: int) -> None:
        import openvino

        core = openvino.Core()
        if precision != "f32" and _CAPABILITY[precision] not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pb_utils.Logger.log_warn(f"this CPU has no {precision} arithmetic, or would emulate it slowly: f32 is used")
            precision = "f32"
        model = core.read_model(graph)
        self.shape = list(json.loads(str(model.input("images").partial_shape.to_string().replace("?", "-1"))))
        self.outputs = list(outputs)
        self.places = _places([set(output.names) for output in model.outputs], outputs)
        model.reshape({"images": [1, *self.shape[1:]]})
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(model, "CPU", options | {"INFERENCE_PRECISION_HINT": precision})
        self.queue = openvino.AsyncInferQueue(compiled)
        self.queue.set_callback(self._keep)
        streams = len(self.queue)
        self.description = f"OpenVINO {openvino.__version__}, CPU, {precision}, {threads} threads, {streams} streams"

    def _keep(self, request: Any, answer: tuple[list[Any], int]) -> None:  # noqa: ANN401  # OpenVINO's own
        images, index = answer
        images[index] = [request.get_output_tensor(place).data.copy() for place in self.places]

    def answer(self, batch: Sequence[Images]) -> list[Outputs | Exception]:
        """Answer every request of a batch."""
        answers: list[list[Any]] = [[None] * len(images) for images in batch]
        failure: Exception = RuntimeError("OpenVINO gave no answer")
        try:
            for images, answer in zip(batch, answers, strict=True):
                for index in range(len(images)):
                    self.queue.start_async({"images": images[index : index + 1]}, (answer, index))
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes the unanswered requests' error
            failure = error
        try:
            self.queue.wait_all()
        except Exception as error:  # noqa: BLE001
            failure = error
        return [failure if None in answer else self._joined(answer) for answer in answers]

    def _joined(self, answer: list[list[NDArray[np.float32]]]) -> Outputs:
        """The outputs of single images as those of one request."""
        if len(answer) == 1:
            return dict(zip(self.outputs, answer[0], strict=True))
        return {name: np.concatenate(parts) for name, *parts in zip(self.outputs, *answer, strict=True)}


def _places(found: Sequence[set[str]], expected: Collection[str]) -> list[int]:
    """Where each expected output is among those of the graph, which each may have several names."""
    places = [[place for place, names in enumerate(found) if name in names] for name in expected]
    if len(found) != len(expected) or not all(places):
        names = sorted(min(names, default="?") for names in found)
        raise ValueError(f"expected the outputs {sorted(expected)}, found {names}")
    return [place[0] for place in places]


def choose_runtime(graph: Path, outputs: Collection[str], precision: str, threads: int, *, gpu: bool) -> Runtime:
    """CUDA where ONNX Runtime has it and Triton sees a GPU, else OpenVINO, else ONNX Runtime on the CPU."""
    runtime: Runtime | None = _cuda(graph, outputs, threads) if gpu else None
    if gpu and runtime is None:
        pb_utils.Logger.log_warn("there is a GPU, but no ONNX Runtime with CUDA (onnxruntime-gpu): the CPU is used")
    if runtime is None:
        try:
            return OpenVino(graph, outputs, precision, threads)
        except ImportError:
            runtime = OnnxRuntime(graph, outputs, "CPUExecutionProvider", threads)
    if precision != "f32":
        pb_utils.Logger.log_warn(f"ONNX Runtime runs the graph as it is, in f32 and not in {precision}")
    return runtime


def _cuda(graph: Path, outputs: Collection[str], threads: int) -> OnnxRuntime | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries as PyPI carries them are not on the loader's path
    # Where CUDA's own libraries are missing, ONNX Runtime quietly goes on with the CPU.
    runtime = OnnxRuntime(graph, outputs, "CUDAExecutionProvider", threads)
    return runtime if runtime.joins else None


def _leave_with(server: int) -> None:
    """End this process when the server's is gone: the backend's own watch sometimes misses a killed server."""
    while os.getppid() == server:
        time.sleep(1.0)
    os._exit(1)


class TritonPythonModel:
    """The model as Triton's Python backend drives it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph and answer one grey image: a version that cannot do that never becomes ready."""
        threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
        version = args["model_version"]
        try:
            self._load(args, json.loads(args["model_config"]), version)
        except Exception as error:
            raise pb_utils.TritonModelException(f"version {version}: {error}") from error
        pb_utils.Logger.log_info(f"{args['model_name']} version {version}: {self.runtime.description}")

    def _load(self, args: dict[str, str], config: dict[str, Any], version: str) -> None:
        graph = Path(args["model_repository"]) / version / "model.onnx"
        _check_digest(graph, _parameter(config, f"digest.{version}", ""))
        task = _parameter(config, f"task.{version}", "detect")
        if task not in OUTPUTS:
            raise ValueError(f"expected a task of {', '.join(OUTPUTS)}, found {task!r}: deploy that version again")
        cores = len(os.sched_getaffinity(0)) // int(config["instance_group"][0].get("count", 1))
        threads = int(_parameter(config, "intra_op_thread_count", "0")) or max(1, cores)
        # A config of an earlier release has one precision for all versions.
        precision = _parameter(config, f"precision.{version}", _parameter(config, "precision", "f32"))
        gpu = args["model_instance_kind"] == "GPU"
        try:
            self.runtime = choose_runtime(graph, OUTPUTS[task], precision, threads, gpu=gpu)
        except Exception as error:
            raise ValueError(f"its model.onnx does not load as a graph of task {task}: {error}") from error
        self.side = int(_parameter(config, f"image_size.{version}", "0"))
        if list(self.runtime.shape[1:]) != [self.side, self.side, 3]:
            raise ValueError(
                f"the config says images of {self.side} x {self.side} x 3, the graph takes {self.runtime.shape}: "
                "deploy that version again"
            )
        answer = self.runtime.answer([np.full((1, self.side, self.side, 3), 114, np.uint8)])[0]
        if isinstance(answer, Exception):
            raise RuntimeError(f"its graph does not answer a grey image: {answer}") from answer  # noqa: TRY004
        _check_answer(answer, task, self.side, json.loads(_parameter(config, f"class_names.{version}", "[]")))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch: a request without images or of a wrong shape gets its own error, the others their outputs."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        faults = [self._fault(images) for images in inputs]
        good = [images for images, fault in zip(inputs, faults, strict=True) if fault is None]
        answers = iter(self._answers(good) if good else [])
        return [_response(request, fault or next(answers)) for request, fault in zip(requests, faults, strict=True)]

    def _answers(self, batch: Sequence[Images]) -> list[Outputs | Exception]:
        """Each request's answer, or why there is none; raised out of `execute`, that would hit refused ones as well."""
        try:
            return self.runtime.answer(batch)
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes these requests' error
            pb_utils.Logger.log_error(f"a batch of {len(batch)} requests failed: {error!r}")
            return [error] * len(batch)

    def _fault(self, images: Images) -> Exception | None:
        expected = (self.side, self.side, 3)
        if len(images) == 0:
            return ValueError("expected at least one image in a request, found none: send images, or no request")
        if images.shape[1:] == expected and images.dtype == np.uint8:
            return None
        return ValueError(
            f"expected images of {self.side} x {self.side} pixels, uint8 [N,{self.side},{self.side},3] RGB, found "
            f"{images.dtype} {list(images.shape)}: letterbox each image to the model's image size"
        )


def _parameter(config: dict[str, Any], key: str, default: str) -> str:
    value: str = config.get("parameters", {}).get(key, {}).get("string_value", default)
    return value


def _check_digest(graph: Path, expected: str) -> None:
    """Refuse a graph that is missing, or is not the one that was deployed; an earlier release gave no digest."""
    if not graph.is_file():
        raise ValueError("it has no model.onnx: deploy that version again")
    found = hashlib.sha256(graph.read_bytes()).hexdigest()
    if expected and found != expected:
        raise ValueError(
            f"the config says a model.onnx of SHA-256 {expected}, found {found}: somebody changed a version directory, "
            "which is written once. Train or register the model again, and deploy the new version"
        )


def _check_answer(answer: Outputs, task: str, side: int, class_names: list[str]) -> None:
    """Refuse a graph whose outputs have not the sizes of its task."""
    sizes: dict[int | str, int] = {"S/4": side // 4}
    if class_names:
        sizes["C"] = len(class_names)
    for name, dims in OUTPUTS[task].items():
        found = answer[name].shape
        if len(found) == 1 + len(dims):
            for dim, size in zip(dims, found[1:], strict=True):
                if isinstance(dim, str):
                    sizes.setdefault(dim, size)
        expected = (1, *(sizes.get(dim, dim) for dim in dims))
        if found != expected or answer[name].dtype != np.float32:
            words = " x ".join(map(str, expected))
            raise ValueError(f"task {task}: expected {name} as {words} float32, found {found} {answer[name].dtype}")


def _response(request: Any, answer: Outputs | Exception) -> object:  # noqa: ANN401  # Triton's own
    if isinstance(answer, Exception):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer)))
    wanted = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, answer[name]) for name in wanted if name in answer])

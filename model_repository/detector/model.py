"""A detector in Triton's Python backend: `images` uint8 [N,S,S,3] RGB -> `detections` float32 [N,300,6].

The graph beside this file does the work; this file picks the runtime, keeps both cores busy and answers each request of
a batch on its own. It imports nothing of ours: it is copied into the repository with every version.
"""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Detections = NDArray[np.float32]

ROWS = 300
FIELDS = 6


class Runtime(Protocol):
    """What runs the graph. `answers[i]` belongs to `batch[i]`, or is the reason why there is no answer."""

    description: str
    shape: list[Any]

    def detect(self, batch: list[Images]) -> list[Detections | Exception]:
        """Answer every request of a batch."""
        ...


class OnnxRuntime:
    """ONNX Runtime: requests of a batch joined into one run on a GPU, one after the other on a CPU."""

    def __init__(self, graph: Path, provider: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(graph, options, providers=[provider, "CPUExecutionProvider"])
        self.provider = self.session.get_providers()[0]
        self.joins = self.provider != "CPUExecutionProvider"
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {self.provider}, f32"
        self.shape = self.session.get_inputs()[0].shape

    def detect(self, batch: list[Images]) -> list[Detections | Exception]:
        """Answer every request of a batch."""
        if not self.joins or len(batch) == 1:
            return [self._run(images) for images in batch]
        joined = self._run(np.concatenate(batch))
        if isinstance(joined, Exception):
            return [joined] * len(batch)
        return list(np.split(joined, np.cumsum([len(images) for images in batch])[:-1]))

    def _run(self, images: Images) -> Detections | Exception:
        try:
            answer: Detections = self.session.run(["detections"], {"images": images})[0]
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes this request's error
            return error
        return answer


class OpenVino:
    """OpenVINO on the CPU: image by image through a queue of streams: batches gain nothing there."""

    def __init__(self, graph: Path, precision: str, threads: int) -> None:
        import openvino

        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pb_utils.Logger.log_warn("this CPU has no bf16 arithmetic and would emulate it, several times slower: f32")
            precision = "f32"
        model = core.read_model(graph)
        self.shape = list(json.loads(str(model.input("images").partial_shape.to_string().replace("?", "-1"))))
        model.reshape({"images": [1, *self.shape[1:]]})
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(model, "CPU", options | {"INFERENCE_PRECISION_HINT": precision})
        self.queue = openvino.AsyncInferQueue(compiled)
        self.queue.set_callback(self._keep)
        streams = len(self.queue)
        self.description = f"OpenVINO {openvino.__version__}, CPU, {precision}, {threads} threads, {streams} streams"

    def _keep(self, request: Any, place: tuple[Detections, list[int], int]) -> None:  # noqa: ANN401  # OpenVINO's own
        answer, missing, index = place
        answer[index] = request.get_output_tensor(0).data[0]
        missing.remove(index)

    def detect(self, batch: list[Images]) -> list[Detections | Exception]:
        """Answer every request of a batch."""
        answers = [np.zeros((len(images), ROWS, FIELDS), np.float32) for images in batch]
        missing = [list(range(len(images))) for images in batch]
        failure: Exception = RuntimeError("OpenVINO gave no answer")
        try:
            for images, answer, left in zip(batch, answers, missing, strict=True):
                for index in range(len(images)):
                    self.queue.start_async({"images": images[index : index + 1]}, (answer, left, index))
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes the unanswered requests' error
            failure = error
        try:
            self.queue.wait_all()
        except Exception as error:  # noqa: BLE001
            failure = error
        return [failure if left else answer for answer, left in zip(answers, missing, strict=True)]


def choose_runtime(graph: Path, precision: str, threads: int, *, gpu: bool) -> Runtime:
    """CUDA where ONNX Runtime has it and Triton sees a GPU, else OpenVINO, else ONNX Runtime on the CPU."""
    if gpu:
        on_gpu = _cuda(graph, threads)
        if on_gpu is not None:
            return on_gpu
        pb_utils.Logger.log_warn("there is a GPU, but no ONNX Runtime with CUDA (onnxruntime-gpu): the CPU is used")
    try:
        return OpenVino(graph, precision, threads)
    except ImportError:
        return OnnxRuntime(graph, "CPUExecutionProvider", threads)


def _cuda(graph: Path, threads: int) -> OnnxRuntime | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries as PyPI carries them are not on the loader's path
    # Where CUDA's own libraries are missing, ONNX Runtime quietly goes on with the CPU.
    runtime = OnnxRuntime(graph, "CUDAExecutionProvider", threads)
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
        config = json.loads(args["model_config"])
        version = args["model_version"]
        graph = Path(args["model_repository"]) / version / "model.onnx"
        if not graph.is_file():
            raise pb_utils.TritonModelException(f"version {version} has no model.onnx: deploy that version again")
        threads = max(1, len(os.sched_getaffinity(0)) // int(config["instance_group"][0].get("count", 1)))
        precision = _parameter(config, "precision", "f32")
        try:
            self.runtime = choose_runtime(graph, precision, threads, gpu=args["model_instance_kind"] == "GPU")
        except Exception as error:
            raise pb_utils.TritonModelException(f"version {version}: its model.onnx does not load: {error}") from error
        self.side = int(_parameter(config, f"image_size.{version}", "0"))
        if list(self.runtime.shape[1:]) != [self.side, self.side, 3]:
            raise pb_utils.TritonModelException(
                f"version {version}: the config says images of {self.side} x {self.side} x 3, the graph takes "
                f"{self.runtime.shape}: deploy that version again"
            )
        answer = self.runtime.detect([np.full((1, self.side, self.side, 3), 114, np.uint8)])[0]
        if isinstance(answer, Exception) or answer.shape != (1, ROWS, FIELDS):
            found = answer if isinstance(answer, Exception) else answer.shape
            raise pb_utils.TritonModelException(f"version {version}: expected 1 x 300 x 6 detections, found {found}")
        pb_utils.Logger.log_info(f"{args['model_name']} version {version}: {self.runtime.description}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch: a request with a wrong shape gets its own error, the others their detections."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        faults = [self._fault(images) for images in inputs]
        good = [images for images, fault in zip(inputs, faults, strict=True) if fault is None]
        answers = iter(self.runtime.detect(good) if good else [])
        return [_response(fault or next(answers)) for fault in faults]

    def _fault(self, images: Images) -> Exception | None:
        expected = (self.side, self.side, 3)
        if images.shape[1:] == expected and images.dtype == np.uint8:
            return None
        return ValueError(
            f"expected images of {self.side} x {self.side} pixels, uint8 [N,{self.side},{self.side},3] RGB, found "
            f"{images.dtype} {list(images.shape)}: letterbox each image to the model's image size"
        )


def _parameter(config: dict[str, Any], key: str, default: str) -> str:
    value: str = config.get("parameters", {}).get(key, {}).get("string_value", default)
    return value


def _response(answer: Detections | Exception) -> object:
    if isinstance(answer, Exception):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer)))
    return pb_utils.InferenceResponse([pb_utils.Tensor("detections", answer)])

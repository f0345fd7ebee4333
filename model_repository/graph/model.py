"""A YOLO graph in Triton's Python backend: `images` uint8 [N,S,S,3] RGB -> the float32 outputs of its task.

The graph beside this file does the work; this file picks the runtime, keeps all cores busy and answers each request of
a batch on its own. It imports nothing of ours: it is copied into the repository with every version.
"""

import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
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


# Is told the place of a request in its batch, and its outputs or the reason why there are none.
OnDone = Callable[[int, Outputs | Exception], None]


class Runtime(Protocol):
    """What runs the graph."""

    description: str
    shape: list[Any]

    def answer(self, batch: Sequence[Images], done: OnDone) -> None:
        """Call `done` once for every request of a batch, in whatever thread; returns when there is room for more."""
        ...

    def close(self) -> None:
        """Return when every request is answered."""
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

    def answer(self, batch: Sequence[Images], done: OnDone) -> None:
        """Answer a batch before it returns."""
        joined = self._run(batch) if self.joins and len(batch) > 1 else None
        if isinstance(joined, dict):
            ends = np.cumsum([len(images) for images in batch])[:-1]
            parts = {name: np.split(values, ends) for name, values in joined.items()}
            for index in range(len(batch)):
                done(index, {name: values[index] for name, values in parts.items()})
            return
        # Also where the joined run failed: only the request at fault is to fail.
        for index, images in enumerate(batch):
            done(index, self._run([images]))

    def close(self) -> None:
        """Nothing waits here."""

    def _run(self, batch: Sequence[Images]) -> Outputs | Exception:
        try:
            images = batch[0] if len(batch) == 1 else np.concatenate(batch)
            return dict(zip(self.outputs, self.session.run(self.outputs, {"images": images}), strict=True))
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes this request's error
            return error


class OpenVino:
    """OpenVINO on the CPU: image by image in its streams, a thread for each: batches gain nothing there.

    A request is answered when it is done, not when its batch is: else streams would stand idle at the end of each.
    """

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
        streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self.pool = ThreadPoolExecutor(streams)
        self.idle = [compiled.create_infer_request() for _ in range(streams)]
        # One image waits, so that a stream that is done goes on at once; more wait in Triton's queue.
        self.room = threading.Semaphore(streams + 1)
        self.description = f"OpenVINO {openvino.__version__}, CPU, {precision}, {threads} threads, {streams} streams"

    def answer(self, batch: Sequence[Images], done: OnDone) -> None:
        """Answer each request when its last image is done."""
        for place, images in enumerate(batch):
            gathered = _RequestAccumulator(self.outputs, len(images), functools.partial(done, place))
            for index in range(len(images)):
                self.room.acquire()
                self.pool.submit(self._run, images[index : index + 1], functools.partial(gathered.add, index))

    def _run(self, image: Images, done: Callable[[list[Any] | Exception], None]) -> None:
        request = self.idle.pop()
        answer: list[Any] | Exception
        try:
            request.start_async({"images": image}, share_inputs=True)
            request.wait()
            answer = [request.get_output_tensor(place).data.copy() for place in self.places]
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes this request's error
            answer = error
        finally:
            self.idle.append(request)
            self.room.release()
        done(answer)

    def close(self) -> None:
        """Return when every request is answered."""
        self.pool.shutdown()


class _RequestAccumulator:
    """The answers to the images of one request, which come in any order."""

    def __init__(self, outputs: Sequence[str], count: int, done: Callable[[Outputs | Exception], None]) -> None:
        self._outputs, self._done, self._lock = outputs, done, threading.Lock()
        self._answers: list[list[Any] | Exception | None] = [None] * count

    def add(self, index: int, answer: list[Any] | Exception) -> None:
        with self._lock:
            self._answers[index] = answer
            whole = None not in self._answers
        if whole:
            self._done(self._joined())

    def _joined(self) -> Outputs | Exception:
        good = [answer for answer in self._answers if isinstance(answer, list)]
        if len(good) < len(self._answers):
            return next(answer for answer in self._answers if isinstance(answer, Exception))
        if len(good) == 1:
            return dict(zip(self._outputs, good[0], strict=True))
        return {name: np.concatenate(parts) for name, *parts in zip(self._outputs, *good, strict=True)}


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
        answers: SimpleQueue[Outputs | Exception] = SimpleQueue()
        self.runtime.answer([np.full((1, self.side, self.side, 3), 114, np.uint8)], lambda _, found: answers.put(found))
        answer = answers.get()
        if isinstance(answer, Exception):
            raise RuntimeError(f"its graph does not answer a grey image: {answer}") from answer  # noqa: TRY004
        _check_answer(answer, task, self.side, json.loads(_parameter(config, f"class_names.{version}", "[]")))

    def execute(self, requests: list[Any]) -> None:
        """Take a batch: a request without images or of a wrong shape gets its own error, the others their outputs.

        It returns when there is room for the next batch, which may be before this one is answered.
        """
        waiting: dict[int, Any] = {}  # whoever takes a request out answers it, so each is answered once
        inputs: list[Images] = []

        def done(place: int, answer: Outputs | Exception) -> None:
            if request := waiting.pop(place, None):
                _respond(request, answer)

        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
            if fault := self._fault(images):
                _respond(request, fault)
            else:
                waiting[len(inputs)] = request
                inputs.append(images)
        try:
            self.runtime.answer(inputs, done)
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises becomes the unanswered requests' error
            pb_utils.Logger.log_error(f"a batch of {len(inputs)} requests failed: {error!r}")
            for place in range(len(inputs)):
                done(place, error)

    def finalize(self) -> None:
        """Answer what was taken."""
        self.runtime.close()

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


def _respond(request: Any, answer: Outputs | Exception) -> None:  # noqa: ANN401  # Triton's own
    try:
        response = _response(request, answer)
    except Exception as error:  # noqa: BLE001  # in a thread nobody would hear of it, and the client wait for ever
        response = _response(request, error)
    request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _response(request: Any, answer: Outputs | Exception) -> Any:  # noqa: ANN401  # Triton's own
    if isinstance(answer, Exception):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer)))
    wanted = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, answer[name]) for name in wanted if name in answer])

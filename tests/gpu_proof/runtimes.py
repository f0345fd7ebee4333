"""What runs the graph here: the runtimes of the served model without Triton, and torch alone."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from ultralytics.utils.nms import non_max_suppression

from tasks.serving.served_model import NMS_CONFIDENCE, NMS_IOU
from tasks.serving.task_outputs import MAX_DETECTIONS
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.geometry import Floats, Rgb
from tests.gpu_proof.setup import Setup

OUTPUTS = ("detections",)
LONGEST_S = 60.0  # of an answer
Outputs = dict[str, Floats]
OnResult = Callable[[int, Any], None]


class TorchGraph:
    """The served graph in torch: uint8 [N,S,S,3] -> [N,300,6], in f32 or f16; NMS is torchvision's."""

    def __init__(self, weights: Path, device: str, dtype: torch.dtype) -> None:
        self.device = torch.device("cuda" if device != "cpu" else "cpu")
        self.dtype = dtype
        self.model = bare_model(weights, self.device, dtype)
        self.description = f"torch {torch.__version__}, {self.device}, {str(dtype).removeprefix('torch.')}"

    def infer(self, batch: Sequence[Rgb], on_result: OnResult) -> None:
        """Answer a batch of requests of one image each before it returns."""
        with torch.inference_mode():
            images = torch.from_numpy(np.concatenate(batch)).to(self.device)
            pixels = images.permute(0, 3, 1, 2).to(self.dtype).div_(255)
            raw = self.model(pixels)
            raw = raw[0] if isinstance(raw, list | tuple) else raw
            found = non_max_suppression(raw.float(), NMS_CONFIDENCE, NMS_IOU, max_det=MAX_DETECTIONS, max_time_img=9.0)
        for index, rows in enumerate(found):
            table = np.zeros((1, MAX_DETECTIONS, 6), np.float32)
            table[0, : len(rows)] = rows.cpu().numpy()
            on_result(index, {"detections": table})

    def close(self) -> None:
        """Nothing waits here."""


def bare_model(weights: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the network of weights alone, for images [N,3,S,S] in memory format `channels_last`."""
    model = load_model(str(weights), "detect").model.fuse(verbose=False).eval()
    return model.to(device=device, dtype=dtype, memory_format=torch.channels_last)


def open_runtimes(setup: Setup, weights: Path, graph: Path, most: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each runtime that may be here, and what opens it; it is None if it is not here after all."""
    graph_code = _served_code()
    threads = len(os.sched_getaffinity(0))
    if setup.is_gpu:
        yield "torch f16", lambda: TorchGraph(weights, setup.device, torch.float16)
        yield "torch f32", lambda: TorchGraph(weights, setup.device, torch.float32)
        yield "ONNX Runtime CUDA", lambda: graph_code.open_cuda_runtime(graph, OUTPUTS, threads, most)
        yield "TensorRT f16", lambda: _tensorrt(graph_code, graph, threads, most)
    else:
        yield "torch f32", lambda: TorchGraph(weights, setup.device, torch.float32)
    yield (
        "served on the processor",
        lambda: graph_code.choose_runtime(graph, OUTPUTS, "f32", threads, max_batch_size=most, gpu=False),
    )


def answers(runtime: Any, squares: Sequence[Rgb]) -> list[Outputs]:
    """Return the outputs for each of some [S,S,3] images, which are asked for together, without their N."""
    told: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    runtime.infer([square[None] for square in squares], lambda index, result: told.put((index, result)))
    found = dict(told.get(timeout=LONGEST_S) for _ in squares)  # OpenVINO answers after `infer` has returned
    if fault := next((each for each in found.values() if isinstance(each, Exception)), None):
        raise fault
    return [{name: values[0] for name, values in found[index].items()} for index in range(len(squares))]


def _tensorrt(code: Any, graph: Path, threads: int, most: int) -> Any:
    import onnxruntime

    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    cache = graph.with_name("engines")
    cache.mkdir(exist_ok=True)

    class TensorRt(code.BatchedOnnxRuntime):  # type: ignore[misc]
        """The served code with TensorRT, and CUDA for what it leaves, as Triton's onnxruntime backend is configured."""

        def open_session(self) -> Any:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            engine = {"trt_fp16_enable": True, "trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
            providers = [(self.provider, engine), "CUDAExecutionProvider", "CPUExecutionProvider"]
            return onnxruntime.InferenceSession(graph, options, providers=providers)

    runtime = TensorRt(graph, OUTPUTS, threads, "TensorrtExecutionProvider", most)
    return runtime if runtime.provider == "TensorrtExecutionProvider" else None


def _served_code() -> Any:
    """The code that Triton loads, with a stand-in for the module that Triton gives it."""
    triton = ModuleType("triton_python_backend_utils")
    vars(triton)["Logger"] = SimpleNamespace(log_warn=print, log_info=print, log_error=print)
    vars(triton)["TritonModelException"] = RuntimeError
    sys.modules["triton_python_backend_utils"] = triton
    from model_repository.graph import cuda_runtime, model

    return SimpleNamespace(
        choose_runtime=model.choose_runtime,
        open_cuda_runtime=cuda_runtime.open_cuda_runtime,
        BatchedOnnxRuntime=cuda_runtime.BatchedOnnxRuntime,
    )

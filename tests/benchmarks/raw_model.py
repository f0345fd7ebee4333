"""Ultralytics' own ONNX export in Triton's Python backend: `images` float32 [1,3,S,S] -> `output0`, as its client asks.

bench_inference.py copies it into the repository. Its clients ask one picture after the other, so all threads work on
one. On a GPU it runs with CUDA, as the graphs of ours do.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def _openvino(graph: Path) -> Callable[[Floats], Floats]:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def infer(images: Floats) -> Floats:
        request.infer({0: images}, share_inputs=True)
        output: Floats = request.get_output_tensor(0).data
        return output

    return infer


def _cuda(graph: Path) -> Callable[[Floats], Floats]:
    import onnxruntime

    onnxruntime.preload_dlls()  # CUDA's libraries as PyPI carries them are not on the loader's path
    session = onnxruntime.InferenceSession(graph, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    # Where CUDA's own libraries are missing, ONNX Runtime quietly goes on with the CPU, which is no rival of a GPU.
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise pb_utils.TritonModelException("there is a GPU, but ONNX Runtime does not run on it")

    def infer(images: Floats) -> Floats:
        output: Floats = session.run(["output0"], {"images": images})[0]
        return output

    return infer


class TritonPythonModel:
    """The model as Triton's Python backend drives it."""

    def initialize(self, args: dict[str, str]) -> None:
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.infer = (_cuda if args["model_instance_kind"] == "GPU" else _openvino)(graph)

    def execute(self, requests: list[Any]) -> list[Any]:
        answers = []
        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("output0", self.infer(images))]))
        return answers

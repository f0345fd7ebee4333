"""Ultralytics' own ONNX export in Triton's Python backend: `images` float32 [1,3,S,S] -> `output0`, as its client asks.

bench_inference.py copies it into the repository. Its clients ask one picture after the other, so all threads work on
one.
"""

import os
from pathlib import Path
from typing import Any

import openvino
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The model as Triton's Python backend drives it."""

    def initialize(self, args: dict[str, str]) -> None:
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def execute(self, requests: list[Any]) -> list[Any]:
        answers = []
        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
            self.request.infer({0: images}, share_inputs=True)
            output = pb_utils.Tensor("output0", self.request.get_output_tensor(0).data)
            answers.append(pb_utils.InferenceResponse([output]))
        return answers

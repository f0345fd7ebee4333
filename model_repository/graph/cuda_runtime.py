"""ONNX Runtime with CUDA: only a machine with a GPU runs `open_cuda_runtime`, and no test of this project does.

The tests run `BatchedOnnxRuntime` on the CPU.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from .runtimes import Images, OnnxRuntime, OnResult


class BatchedOnnxRuntime(OnnxRuntime):
    """ONNX Runtime: the requests of a batch in one run, as a GPU needs it."""

    def infer(self, batch: Sequence[Images], on_result: OnResult) -> None:
        """Answer a batch before it returns."""
        try:
            outputs = self._run(np.concatenate(batch)) if len(batch) > 1 else None
        except ValueError:  # images of different sizes
            outputs = None
        if not isinstance(outputs, dict):
            super().infer(batch, on_result)  # also if the joined run failed: only the request at fault is to fail
            return
        ends = np.cumsum([len(images) for images in batch])[:-1]
        parts = {name: np.split(values, ends) for name, values in outputs.items()}
        for index in range(len(batch)):
            on_result(index, {name: values[index] for name, values in parts.items()})


def open_cuda_runtime(graph: Path, outputs: Collection[str], threads: int) -> OnnxRuntime | None:
    """Return the graph on the GPU; None if this ONNX Runtime has no CUDA."""
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries as PyPI carries them are not on the loader's path
    runtime = BatchedOnnxRuntime(graph, outputs, threads, "CUDAExecutionProvider")
    # If CUDA's own libraries are missing, ONNX Runtime goes on with the CPU and says nothing.
    return None if runtime.provider == "CPUExecutionProvider" else runtime

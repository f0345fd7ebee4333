"""ONNX Runtime with CUDA: only a machine with a GPU runs `open_cuda_runtime`, and no test of this project does.

The tests run `BatchedOnnxRuntime` on the CPU.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from .runtimes import Images, OnnxRuntime, OnResult, Outputs

BATCH_SIZES = (1, 4, 16, 64)  # those below serving.max_batch_size, and that one


class BatchedOnnxRuntime(OnnxRuntime):
    """ONNX Runtime: the requests of a batch together, as a GPU needs it, in a session for each of a few batch sizes.

    CUDA's convolutions are planned anew whenever a session gets another number of images than the time before
    (https://github.com/microsoft/onnxruntime/issues/23006): on an H200, sizes that changed from run to run gave 5
    images/s, equal ones 196 to 575. So a session sees one size, and a batch is filled up with black images.
    """

    def __init__(self, graph: Path, outputs: Collection[str], threads: int, provider: str, max_batch_size: int) -> None:
        super().__init__(graph, outputs, threads, provider)
        sizes = {size for size in BATCH_SIZES if size < max_batch_size} | {max_batch_size}
        self.sessions = {size: self.session if size == 1 else self.open_session() for size in sizes}
        for size in self.sessions:
            filled = np.zeros((size, *self.shape[1:]), np.uint8)
            if isinstance(error := self._run(filled), Exception):
                raise RuntimeError(  # noqa: TRY004  # whatever a runtime raises
                    f"a batch of {size} images does not run: {error}. If memory is short, set a smaller "
                    "serving.max_batch_size"
                ) from error

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

    def _run(self, images: Images) -> Outputs | Exception:
        parts: list[Outputs] = []
        while len(images):
            size = self._batch_size(len(images))
            part, images = images[:size], images[size:]
            filled = np.pad(part, [(0, size - len(part)), (0, 0), (0, 0), (0, 0)])
            outputs = self.run_session(self.sessions[size], filled)
            if isinstance(outputs, Exception):
                return outputs
            parts.append({name: values[: len(part)] for name, values in outputs.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _batch_size(self, images: int) -> int:
        """The largest of which so many images fill more than half."""
        return max(size for size in self.sessions if size < 2 * images)


def open_cuda_runtime(graph: Path, outputs: Collection[str], threads: int, max_batch_size: int) -> OnnxRuntime | None:
    """Return the graph on the GPU; None if this ONNX Runtime has no CUDA."""
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries as PyPI carries them are not on the loader's path
    runtime = BatchedOnnxRuntime(graph, outputs, threads, "CUDAExecutionProvider", max_batch_size)
    # If CUDA's own libraries are missing, ONNX Runtime goes on with the CPU and says nothing.
    return None if runtime.provider == "CPUExecutionProvider" else runtime

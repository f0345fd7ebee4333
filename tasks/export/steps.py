"""The export as a step of a flow."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.errors import ExportError
from tasks.orchestration.step import step
from tasks.weights.process import exit_reason, isolated_process

LONGEST_S = 1800.0  # the largest detector at 1280 pixels takes 3 minutes of two busy cores


@step
def export_onnx(weights: Path, folder: Path, image_size: int) -> Path:
    """Return the graph of `write_graph`, run in a process with limits and without any key.

    Raises:
        ExportError: The weights are refused, or the process dies or takes too long.
    """
    arguments = "graph", str(weights.resolve()), str(folder.resolve()), str(image_size)
    _run(arguments, f"export {weights.name} to ONNX")
    return folder / "model.onnx"


@step
def quantize_graph(graph: Path, squares: Sequence[NDArray[np.uint8]], targets: Mapping[str, Path]) -> None:
    """Write the graphs of `write_int8_graphs`, with the ranges of [S,S,3] images, in a process as `export_onnx`.

    Raises:
        ExportError: The graph has nothing to quantise, or the process dies or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="quantizing-") as scratch:
        images = Path(scratch) / "images.npy"
        np.save(images, np.stack(squares))
        files = json.dumps({precision: str(path.resolve()) for precision, path in targets.items()})
        _run(("int8", str(graph.resolve()), str(images), files), f"quantise {graph.name}")


def _run(arguments: Sequence[str], purpose: str) -> None:
    with tempfile.TemporaryDirectory(prefix="exporting-") as scratch:
        refusal = Path(scratch) / "refusal.txt"
        log = Path(scratch) / "output.log"
        with (
            log.open("w") as output,
            isolated_process("tasks.export", [*arguments, str(refusal)], output) as process,
        ):
            try:
                status = process.wait(LONGEST_S)
            except subprocess.TimeoutExpired:
                raise ExportError(
                    f"expected to {purpose} within {LONGEST_S:g} s, found no end: take a smaller model or image size, "
                    f"or run this again when the machine is less busy"
                ) from None
        if refusal.is_file():
            raise ExportError(refusal.read_text(encoding="utf-8"))
        if status:
            reason = exit_reason(status, log.read_text(errors="replace"))
            raise ExportError(
                f"the process that is to {purpose} {reason}. Memory may have run out: free some, then run this again."
            )

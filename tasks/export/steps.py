"""The export as a step of a flow."""

import subprocess
import tempfile
from pathlib import Path

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
    with tempfile.TemporaryDirectory(prefix="exporting-") as scratch:
        refusal = Path(scratch) / "refusal.txt"
        log = Path(scratch) / "output.log"
        arguments = [str(weights.resolve()), str(folder.resolve()), str(image_size), str(refusal)]
        with log.open("w") as output, isolated_process("tasks.export", arguments, output) as process:
            try:
                status = process.wait(LONGEST_S)
            except subprocess.TimeoutExpired:
                raise ExportError(
                    f"expected to export {weights.name} to ONNX within {LONGEST_S:g} s, found no end: take a smaller "
                    f"model or image size, or run this again when the machine is less busy"
                ) from None
        if refusal.is_file():
            raise ExportError(refusal.read_text(encoding="utf-8"))
        if status:
            reason = exit_reason(status, log.read_text(errors="replace"))
            raise ExportError(
                f"the process that exports {weights.name} to ONNX {reason}. Memory may have run out: free some, then "
                f"run this again."
            )
    return folder / "model.onnx"

"""The export as a step of a flow."""

import tempfile
from pathlib import Path

from tasks.errors import ExportError
from tasks.orchestration.step import step
from tasks.weights.process import exit_reason, isolated_process


@step
def export_onnx(weights: Path, folder: Path, image_size: int) -> Path:
    """Return the graph of `write_graph`, run in a process without any key, whose crash does not end this one.

    Raises:
        ExportError: The weights are refused, or the process dies.
    """
    with tempfile.TemporaryDirectory(prefix="exporting-") as scratch:
        refusal = Path(scratch) / "refusal.txt"
        log = Path(scratch) / "output.log"
        arguments = [str(weights.resolve()), str(folder.resolve()), str(image_size), str(refusal)]
        with log.open("w") as output, isolated_process("tasks.export", arguments, output) as process:
            status = process.wait()
        if refusal.is_file():
            raise ExportError(refusal.read_text(encoding="utf-8"))
        if status:
            reason = exit_reason(status, log.read_text(errors="replace"))
            raise ExportError(
                f"the process that exports {weights.name} to ONNX {reason}. Memory may have run out: free some, then "
                f"run this again."
            )
    return folder / "model.onnx"

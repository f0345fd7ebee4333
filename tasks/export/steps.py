"""The export as a step of a flow."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.errors import ExportError
from tasks.orchestration.step import step
from tasks.weights.isolation import without_credentials

CHECKOUT = Path(__file__).resolve().parents[2]


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
        status = _run(arguments, log)
        if refusal.is_file():
            raise ExportError(refusal.read_text(encoding="utf-8"))
        if status:
            raise ExportError(_exit_reason(weights, status, log.read_text(errors="replace")))
    return folder / "model.onnx"


def _run(arguments: list[str], log: Path) -> int:
    """Run the process to its end; returns its exit status."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.export", *arguments],
            cwd=log.parent,
            env=without_credentials(os.environ, CHECKOUT),
            stdin=subprocess.PIPE,  # the process ends with it
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with process:
            try:
                return process.wait()
            finally:
                process.kill()


def _exit_reason(weights: Path, status: int, output: str) -> str:
    last = output.strip().rpartition("\n")[2]
    by = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}: {last}"
    advice = "Memory may have run out: free some, then run this again."
    return f"the process that exports {weights.name} to ONNX {by}. {advice}"

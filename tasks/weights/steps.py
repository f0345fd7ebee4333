"""The look into weights as a step of a flow."""

import subprocess
import tempfile
from pathlib import Path

from tasks.orchestration.step import step
from tasks.weights.description import WeightsDescription, read_description
from tasks.weights.loader import WeightsError
from tasks.weights.process import exit_reason, isolated_process

LONGEST_S = 900.0  # official weights are downloaded in it


@step
def describe_weights(weights: Path) -> WeightsDescription:
    """Return what a .pt file says about its model, read in a process with limits and without any key.

    Official weights that are no file yet are downloaded to that path.

    Raises:
        WeightsError: The weights are refused, or the process dies or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="weights-") as scratch:
        answer, refusal, log = (Path(scratch) / name for name in ("answer.json", "refusal.txt", "output.log"))
        arguments = [str(weights.resolve()), str(answer), str(refusal)]
        with log.open("w") as output, isolated_process("tasks.weights", arguments, output) as process:
            try:
                status = process.wait(LONGEST_S)
            except subprocess.TimeoutExpired:
                raise WeightsError(f"Expected to read {weights.name} within {LONGEST_S:g} s, found no end.") from None
        if refusal.is_file():
            raise WeightsError(refusal.read_text(encoding="utf-8"))
        if status or not answer.is_file():
            reason = exit_reason(status, log.read_text(errors="replace")[-10_000:])
            raise WeightsError(f"The process that reads {weights.name} {reason}.")
        return read_description(answer)

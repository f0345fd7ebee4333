"""The import as a step of a flow."""

import json
import tempfile
from pathlib import Path

from tasks.errors import StudioError, expected_found_fix
from tasks.importing.changes import list_changes
from tasks.importing.importer import ImportSummary
from tasks.orchestration.current_run import run_logger
from tasks.orchestration.step import step
from tasks.parameters import ImportParams
from tasks.weights.process import exit_reason, isolated_process

_LOGGED_CHANGES = 20  # the report has them all
MAX_ANSWER_BYTES = 16 * 2**20  # of what the other process says: this one holds the keys


class ImportFailedError(StudioError):
    """An archive that cannot be imported; the message says why."""


@step
def convert_archive(source: Path, target: Path, importing: ImportParams, origin: str, digest: str) -> ImportSummary:
    """Write the YOLO archive `target` of `source`, in a process with limits and without any key.

    Args:
        source: The archive in the format of another tool.
        target: Where to write, where no file is.
        importing: How to read it.
        origin: The address of the source, for the provenance.
        digest: The SHA-256 of the source in hex, for the provenance.

    Raises:
        ImportFailedError: The source is refused, or the process dies.
    """
    provenance = {"source": origin, "sha256": digest, "importing": importing.model_dump(mode="json")}
    with tempfile.TemporaryDirectory(prefix="importing-") as scratch:
        request, answer, log = (Path(scratch) / name for name in ("request.json", "answer.json", "output.log"))
        asked = {"importing": importing.model_dump(mode="json"), "provenance": provenance}
        request.write_text(json.dumps(asked), encoding="utf-8")
        arguments = [str(source.resolve()), str(target.resolve()), str(request), str(answer)]
        with log.open("w") as output, isolated_process("tasks.importing", arguments, output) as process:
            status = process.wait()
        if not answer.is_file():
            raise ImportFailedError(f"the process that imports {source.name} {_ending(status, log)}")
        with answer.open("rb") as file:
            text = file.read(MAX_ANSWER_BYTES + 1)
    if len(text) > MAX_ANSWER_BYTES:
        fix = "It names too many classes or files: import a part of it, then run this again."
        raise ImportFailedError(
            expected_found_fix(f"an archive whose summary has at most {MAX_ANSWER_BYTES} bytes", "a longer one", fix)
        )
    written = json.loads(text)
    if refusal := written.get("refusal"):
        raise ImportFailedError(refusal)
    summary = ImportSummary(**written["summary"])
    for line in [*list_changes(summary.changes, _LOGGED_CHANGES), *summary.notes]:
        run_logger().info("%s", line)
    return summary


def _ending(status: int, log: Path) -> str:
    """Return how a process ended that gave no answer, and what to do."""
    reason = exit_reason(status, log.read_text(errors="replace")[-10_000:])
    if status < 0:
        return f"{reason}. Memory or time may have run out: import a part of the archive, then run this again."
    return f"{reason}. This is a fault of this program: report it, with the file that it fails on."

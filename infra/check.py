"""The check of a dataset archive of this disk, without a server.

Exit code 0: valid, also with warnings. 1: invalid. 2: there is no such file, or it is not a readable zip.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from tasks.dataset.findings import Report, Severity, Verdict
from tasks.errors import StudioError
from tasks.files import sha256_of
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import Inspection, inspect_dataset, render_inspection

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_SHOWN_PER_CODE = 3


def check_archive(archive: Path, *, as_json: bool, page: Path | None, policy: Path | None) -> int:
    """Check an archive, print the report or write the page, and return the exit code.

    Raises:
        StudioError: There is no such file, the policy cannot be read, or there is no place for the page.
    """
    if not archive.is_file():
        raise StudioError(
            f"Expected a zip on this disk, found no file {archive}. Correct the path; `studio validate KEY` checks an "
            "archive of bucket datasets."
        )
    chosen = _read_policy(policy)
    inspection = _inspect(archive, chosen)
    report = inspection.report
    if page:
        try:
            page.write_text(render_inspection(inspection, archive, chosen), encoding="utf-8")
        except OSError as error:
            raise StudioError(
                f"Expected a place for the page, found: {error}. Name a file in a folder that exists."
            ) from error
        sys.stderr.write(f"page: {page}\n")
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        _print(report, Console(highlight=False, soft_wrap=True))
    # A finding without a path is about the file itself, not about an entry in it.
    if any(finding.code == Code.ARCHIVE_UNREADABLE and finding.path is None for finding in report.findings):
        return 2
    return 1 if report.verdict is Verdict.INVALID else 0


def _read_policy(path: Path | None) -> ValidationPolicy:
    try:
        return ValidationPolicy() if path is None else ValidationPolicy.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudioError(f"Expected a JSON file with fields of ValidationPolicy, found: {error}") from error


def _inspect(path: Path, policy: ValidationPolicy) -> Inspection:
    digest = ""
    with suppress(OSError):  # the report says that the archive cannot be read
        digest = sha256_of(path)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task("decoding images", total=None)
        return inspect_dataset(
            path,
            os.fsencode(path.name).decode("utf-8", "replace"),
            digest,
            policy,
            lambda done, total: bar.update(job, completed=done, total=total),
        )


def _print(report: Report, console: Console) -> None:
    shown = [
        finding
        for code in dict.fromkeys(finding.code for finding in report.findings)
        for finding in [each for each in report.findings if each.code == code][:_SHOWN_PER_CODE]
    ]
    for finding in shown:
        place = f"{finding.path or report.archive}{f':{finding.line}' if finding.line else ''}"
        severity = (finding.severity.value, _STYLES[finding.severity])
        # Text, because the names and values in it come from the archive and must not be read as markup.
        console.print(Text.assemble(f"{place}: ", severity, f" {finding.code}: {finding.message}"))
    if hidden := sum(report.counts.values()) - len(shown):
        console.print(Text(f"{hidden} more findings of the same codes: see them with --json."))
    for name, split in report.statistics.splits.items():
        labels = ", ".join(f"{label} {count}" for label, count in split.instances.items())
        console.print(Text(f"{name}: {split.images} images, {split.labelled} labelled: {labels or 'no labels'}"))
    if report.statistics.splits:
        console.print(Text(f"task: {report.statistics.task or 'unknown'}"))
    counts = ", ".join(f"{code} {count}" for code, count in report.counts.items())
    console.print(Text(f"{report.archive}: {report.verdict.value}" + (f" ({counts})" if counts else "")))

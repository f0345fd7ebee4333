"""`python -m infra.check ARCHIVE [--json] [--page FILE] [--policy FILE]`: check a dataset archive, with no server.

Exit code 0: valid, also with warnings. 1: invalid. 2: there is no such file, or it is not a readable zip.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from tasks.dataset.findings import Finding, Report, Severity, Verdict
from tasks.files import sha256_of
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import Inspection, inspect_dataset, render_inspection

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_SHOWN_PER_CODE = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the archive that the arguments name, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.check", description="Check a YOLO dataset archive.")
    parser.add_argument("archive", type=Path, help="zip archive of a dataset")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument("--page", type=Path, help="write the page with figures and pictures to this HTML file")
    parser.add_argument("--policy", type=_policy, default="{}", help="JSON file with fields of ValidationPolicy")
    chosen = parser.parse_args(arguments)
    inspection = _inspect(chosen.archive, chosen.policy)
    report = inspection.report
    if chosen.page:
        try:
            chosen.page.write_text(render_inspection(inspection, chosen.archive, chosen.policy), encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"expected a place for the page, found: {error}; name a file in a folder that exists\n")
            return 2
        sys.stderr.write(f"page: {chosen.page}\n")
    if chosen.json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        _print(report, Console())
    # A finding without a path is about the file itself, not about an entry in it.
    if any(finding.code == Code.ARCHIVE_UNREADABLE and finding.path is None for finding in report.findings):
        return 2
    return 1 if report.verdict is Verdict.INVALID else 0


def _policy(text: str) -> ValidationPolicy:
    try:
        return ValidationPolicy.model_validate_json(text if text == "{}" else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"expected a JSON file of a validation policy: {error}") from error


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
    if shown:
        console.print(_findings_table(shown))
    if hidden := sum(report.counts.values()) - len(shown):
        console.print(Text(f"{hidden} more findings of the same codes: see them with --json."))
    if report.statistics.splits:
        console.print(_splits_table(report))
    counts = ", ".join(f"{code} {count}" for code, count in report.counts.items())
    console.print(Text(f"{report.archive}: {report.verdict.value}" + (f" ({counts})" if counts else "")))


def _findings_table(findings: list[Finding]) -> Table:
    table = Table("severity", "code", Column("place", overflow="fold"), Column("finding", overflow="fold"))
    for finding in findings:
        place = (finding.path or "") + (f":{finding.line}" if finding.line else "")
        # Text, because the names and values in it come from the archive and must not be read as markup.
        severity = Text(finding.severity.value, style=_STYLES[finding.severity])
        table.add_row(severity, finding.code, Text(place), Text(finding.message))
    return table


def _splits_table(report: Report) -> Table:
    table = Table("split", "images", "labelled", "labels", title=f"task: {report.statistics.task or 'unknown'}")
    for name, split in report.statistics.splits.items():
        labels = ", ".join(f"{name} {count}" for name, count in split.instances.items())
        table.add_row(name, str(split.images), str(split.labelled), Text(labels))
    return table


if __name__ == "__main__":
    sys.exit(main())

"""A validation report as a page of markdown and as one sentence."""

from collections import defaultdict

from tasks.core.findings import Finding, Report, Severity
from tasks.core.markdown import plain, table

SHOWN_PER_CODE = 3


def report_markdown(report: Report, link: str) -> str:
    """Verdict, counts by code, the first findings of each code, and a table of splits and classes."""
    parts = [
        f"# {plain(report.archive)}: {report.verdict}",
        f"[Whole report (JSON)]({link}), SHA-256 `{report.digest}`",
    ]
    if report.counts:
        parts += ["## Findings", _findings(report)]
    if report.statistics.splits:
        parts += [f"## Splits (task: {plain(report.statistics.task)})", _splits(report)]
    return "\n\n".join(parts)


def _findings(report: Report) -> str:
    by_code: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_code[finding.code].append(finding)
    rows = [
        (code, report.counts[code], finding.severity, place(finding), finding.message)
        for code, findings in by_code.items()
        for finding in findings[:SHOWN_PER_CODE]
    ]
    return table(("code", "count", "severity", "where", "expected, found, fix"), rows)


def _splits(report: Report) -> str:
    splits, names = report.statistics.splits, report.statistics.class_names
    rows: list[tuple[object, ...]] = [
        ("images", *(split.images for split in splits.values())),
        ("labelled", *(split.labelled for split in splits.values())),
    ]
    rows += [(name, *(split.instances.get(name, 0) for split in splits.values())) for name in names]
    return table(("", *splits), rows)


def place(finding: Finding) -> str:
    """`entry:line`, as far as there is one."""
    return ":".join(str(part) for part in (finding.path, finding.line) if part is not None)


def report_sentence(report: Report) -> str:
    """Counts by code, and the first error in full: what a run's state message says."""
    counts = ", ".join(f"{count} {code}" for code, count in report.counts.items()) or "no findings"
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    first = f". {place(errors[0])} {errors[0].message}".replace(".  ", ". ") if errors else ""
    return f"{report.archive}: {report.verdict}, {counts}{first}"

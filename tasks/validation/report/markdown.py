"""A validation report as a page of markdown and as one sentence."""

from tasks.dataset.findings import Finding, Report, Severity
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text
from tasks.validation.report.groups import (
    Group,
    count_classes,
    count_origins,
    format_location,
    group_findings,
    sanitize_text,
)

SHOWN_PER_CODE = 3
SHOWN_CLASSES = 40
_CELL = 400


def report_markdown(report: Report, page_link: str, json_link: str, checked: str | None, links: str = "") -> str:
    """Return the verdict, counts by code, the first findings of each code, and a table of splits and classes.

    The links lead to the full report as HTML and as JSON and to other pages; `checked` says when the archive was
    checked, if that was before this run.
    """
    groups = group_findings(report)
    parts = [
        f"# {wrap_text(sanitize_text(report.archive, _CELL))}: {report.verdict}",
        f"**[Open the full report: pictures, charts, every code]({page_link})** or its [JSON]({json_link})",
        *([links] if links else []),
        *([wrap_text(checked)] if checked else []),
        f"{_tally(report)}. SHA-256 `{report.digest}`",
    ]
    if groups:
        parts += ["## Findings", _findings(groups)]
    if report.statistics.splits:
        parts += [f"## Splits (task: {escape_markdown(report.statistics.task or 'unknown')})", _splits(report)]
    if origins := count_origins(report):
        parts.append(table(("labelled by", "images", "labels"), origins))
    return "\n\n".join(parts)


def _tally(report: Report) -> str:
    return ", ".join(f"{severity.plural}: {count}" for severity, count in report.severities.items()).capitalize()


def _findings(groups: list[Group]) -> str:
    """All codes with their counts, then the first findings of each in full, which no cell of a table has room for."""
    counts = table(("code", "count", "severity"), [(group.code, group.count, group.severity) for group in groups])
    parts = [counts]
    for group in groups:
        shown = [_finding(finding) for finding in group.findings[:SHOWN_PER_CODE]]
        more = group.count - len(shown)
        parts += [
            f"**{escape_markdown(group.code)}** ({group.severity}): {escape_markdown(group.code.meaning)}",
            bullet_list([*shown, *([f"and {more} more"] if more else [])]),
        ]
    return "\n\n".join(parts)


def _finding(finding: Finding) -> str:
    location = wrap_text(sanitize_text(format_location(finding), _CELL))
    message = wrap_text(sanitize_text(finding.message, _CELL))
    return f"**{location}** {message}" if location else message


def _splits(report: Report) -> str:
    splits = report.statistics.splits
    names = [name for name, _ in count_classes(report)]
    rows: list[tuple[object, ...]] = [
        (figure, *(getattr(split, figure) for split in splits.values())) for figure in ("images", "labelled", "labels")
    ]
    rows += [
        (sanitize_text(name, _CELL), *(split.instances.get(name, 0) for split in splits.values()))
        for name in names[:SHOWN_CLASSES]
    ]
    more = len(names) - SHOWN_CLASSES
    return table(("", *splits), rows) + (f"\n\n{more} more classes are in the full report." if more > 0 else "")


def report_sentence(report: Report) -> str:
    """Counts by code, and the first error in full: what a run's state message says."""
    counts = ", ".join(f"{count} {code}" for code, count in report.counts.items()) or "no findings"
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    first = f". {format_location(errors[0])} {errors[0].message}".replace(".  ", ". ") if errors else ""
    return f"{report.archive}: {report.verdict}, {counts}{first}"

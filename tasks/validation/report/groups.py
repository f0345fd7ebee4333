"""Findings as people read them: by code and severity, errors first."""

import re
from collections import Counter
from dataclasses import dataclass

from tasks.dataset.findings import Finding, Report, Severity
from tasks.dataset.label_origins import Origin
from tasks.finding_codes import Code

# Control characters, halves of characters, and marks that turn the direction of writing: they forge names.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Group:
    """All findings of one code and severity; `count` includes those that the report does not keep."""

    code: Code
    severity: Severity
    count: int
    findings: tuple[Finding, ...]


def group_findings(report: Report) -> list[Group]:
    """Return the findings by severity, errors first, and within it in the order of the codes."""
    groups: dict[tuple[Severity, Code], list[Finding]] = {(level, code): [] for level in Severity for code in Code}
    for finding in report.findings:
        groups[finding.severity, finding.code].append(finding)
    return [
        Group(
            code=code,
            severity=level,
            count=len(findings) + report.omitted.get(code, {}).get(level, 0),
            findings=tuple(findings),
        )
        for (level, code), findings in groups.items()
        if findings
    ]


def count_classes(report: Report) -> list[tuple[str, int]]:
    """Return the labels of each class over all splits; without names in data.yaml those that labels name."""
    statistics = report.statistics
    counted: Counter[str] = Counter(dict.fromkeys(statistics.class_names, 0))
    for split in statistics.splits.values():
        counted.update(split.instances)
    return list(counted.items())


def count_origins(report: Report) -> list[tuple[str, int, int]]:
    """Return images and labels by who made them, in words; nothing if no model had a part in any."""
    origins = report.statistics.origins
    words = {Origin.HUMAN: "a person", Origin.MODEL: "a model", Origin.ACCEPTED: "a model, accepted by a person"}
    return [(said, origins.images[each], origins.labels[each]) for each, said in words.items()] if origins else []


def format_location(finding: Finding) -> str:
    """`entry:line`, as far as there is one."""
    return ":".join(str(part) for part in (finding.path, finding.line) if part is not None)


def sanitize_text(text: object, longest: int) -> str:
    """Return text from outside without what would forge it, its middle cut out beyond `longest` characters."""
    whole = str(text)
    line = whole if len(whole) <= longest else f"{whole[: longest // 3]}…{whole[longest // 3 + 1 - longest :]}"
    return _UNSHOWN.sub("�", line)
